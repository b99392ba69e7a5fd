"""HybridNorm*: HybridNorm whose first layer is Pre-LN."""

from ..skip.base import Site
from ..variant import Paper
from .base import PLACEMENTS, Connection
from .hybrid import Hybrid
from .pre import Pre

__all__ = ["HybridStar"]


@PLACEMENTS.declare(
    "hybrid-star",
    title="HybridNorm*",
    equation="HybridNorm, but x + F(N(x)) in the first layer, with QKV-norm there too",
    paper=Paper("Zhuo et al. 2025", "2503.04598"),
    qk_norms=("rms-qkv",),
    example="--skip-norm rms",
)
class HybridStar(Hybrid):
    """:class:`.Hybrid`, but for the first layer of each side, all of whose sub-layers are :class:`.Pre`.

    Queries, keys and values are normed in that layer too, as in the authors' code.

    Source: Zhuo et al., NeurIPS 2025, arXiv:2503.04598.
    """

    @classmethod
    def at(cls, site: Site) -> type[Connection]:
        return Pre if site.layer == 0 else super().at(site)
