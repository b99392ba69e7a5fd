"""Identity Hyper-Connections: only what is read and written is learned."""

from torch import Tensor

from ..precision import single
from .base import SKIPS
from .mapped import MAPPED, MappedStreams
from .streams import AROUND_F, STREAMS

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

    ``H_pre = σ(α x̃φ + b)`` and ``H_post = 2σ(…)`` are maps of all streams (:class:`.Maps`). A stream is never mixed
    with another, so nothing that is written grows or fades. With φ and b at 0 it is Pre-LN but for the eps of norms:
    all streams are x, ``h = n/2 · x`` and H_post = 1.

    Later papers and models have it as iHC. None that could be read gives first values and the end of the stack, so
    these are options without a default. Source: as :class:`.ManifoldSkip`.
    """

    def __init__(self, streams: int, width: int, start: str):
        super().__init__(streams, width, (), start)

    def keep(self, streams: Tensor) -> Tensor:
        return single(streams)
