"""mHC: Hyper-Connections whose mixing of the streams is doubly stochastic."""

import torch
from torch import Tensor

from ..precision import single
from ..variant import Option, Paper
from .base import SKIPS
from .mapped import MAPPED, MappedStreams
from .streams import AROUND_F, STREAMS

__all__ = ["ManifoldSkip", "sinkhorn"]


def sinkhorn(logits: Tensor, iterations: int) -> Tensor:
    """Of exp(logits) (…, n, n) the columns are divided by their sums, then the rows by theirs, and so on.

    It is done to the logarithms, so that no sum is ever 0 or infinite.
    """
    for _ in range(iterations):
        logits = logits - torch.logsumexp(logits, -2, keepdim=True)
        logits = logits - torch.logsumexp(logits, -1, keepdim=True)
    return logits.exp()


@SKIPS.declare(
    "mhc",
    title="mHC",
    equation="h = σ(α x̃φ + b) H, H ← Sinkhorn(α″ x̃φ″ + b″) H + 2σ(α′ x̃φ′ + b′)ᵀ F(h)",
    paper=Paper("Xie et al. 2025", "2512.24880"),
    options=(
        STREAMS,
        *MAPPED,
        Option(
            "iterations",
            "mhc_iterations",
            "Sinkhorn's steps (default: 20)",
            "T",
            int,
            least=1,
            default=20,
            drawn=(3, 20),
        ),
    ),
    goes_with=AROUND_F,
    example="--mhc-start megatron --mhc-end sum",
)
class ManifoldSkip(MappedStreams):
    """``h = H_pre H``, ``H ← H_res H + H_postᵀ F(h)``.

    ``H_pre = σ(·)``, ``H_post = 2σ(·)`` and ``H_res = Sinkhorn(·)`` of maps of all n streams together, ``α (x̃φ) + b``
    (:class:`.Maps`). The rows and columns of H_res (n, n) sum to 1: T times the columns are normalised, then the rows,
    in single precision at least.

    The paper gives n = 4, α = 0.01 at first and T = 20. It does not say how φ and b start, nor what makes one stream of
    n at the end, so these are options without a default. At first H_pre is about ½, H_post 1 and H_res 1/n: the streams
    are averaged at once. DeepSeek-V4's inference code adds 10⁻⁶ to H_pre and in Sinkhorn's steps; here nothing is
    added. It begins with the rows and applies the transposed H_res, which is this with transposed logits.

    Source: Xie et al. 2025, arXiv:2512.24880, equations 3 to 9 and appendix A.1.
    """

    def __init__(self, streams: int, width: int, start: str, iterations: int = 20):
        super().__init__(streams, width, (streams * streams,), start)
        self.iterations = iterations

    def keep(self, streams: Tensor) -> Tensor:
        logits = self.maps(streams, 2).unflatten(-1, [self.streams, self.streams])
        return torch.matmul(sinkhorn(logits, self.iterations), single(streams))
