"""Identity Hyper-Connections: only what is read and written is learned."""

from torch import Tensor

from .base import SKIPS
from .mapped import MAPPED, MappedStreams
from .streams import AROUND_F, STREAMS, single

__all__ = ["IdentityHyperSkip"]


@SKIPS.declare(
    "hyper-identity",
    title="identity Hyper-Connections",
    equation="h = σ(α x̃φ + b) H, H ← H + 2σ(α′ x̃φ′ + b′)ᵀ F(h)",
    paper="mHC with the identity as H_res",
    options=(STREAMS, *MAPPED),
    goes_with=AROUND_F,
    example="--mhc-start megatron --mhc-end sum",
)
class IdentityHyperSkip(MappedStreams):
    """:class:`.ManifoldSkip` with ``H_res = I``: ``h = H_pre H``, ``H ← H + H_postᵀ F(h)``.

    ``H_pre = σ(α x̃φ + b)`` and ``H_post = 2σ(…)`` are maps of all streams (:class:`.Maps`); a stream is never mixed with
    another, so nothing that is written grows or fades. With φ and b at 0 it would be Pre-LN: ``h = n/2 · x``,
    H_post = 1.

    It was proposed as an ablation of mHC; papers and models call it iHC. None of those that were read gives first values
    or the end, so these are options without a default. Source: as :class:`.ManifoldSkip`.
    """

    def __init__(self, streams: int, width: int, start: str):
        super().__init__(streams, width, (), start)

    def keep(self, streams: Tensor) -> Tensor:
        return single(streams)
