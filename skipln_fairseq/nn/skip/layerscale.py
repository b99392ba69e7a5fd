"""LayerScale: a branch that starts small, feature by feature."""

from ..variant import Option, Paper
from .base import NORMED, SKIPS, Site
from .scaled_branch import ScaledBranch

__all__ = ["LayerScaleSkip"]


@SKIPS.declare(
    "layerscale",
    title="LayerScale",
    equation="x + s ⊙ F(N(x)), s from 10⁻⁴",
    paper=Paper("Touvron et al. 2021", "2103.17239"),
    options=(
        Option(
            "scale",
            "layerscale_init",
            "first value of LayerScale's factors (default: 1e-4)",
            "s",
            default=1e-4,
            drawn=(1e-4, 0.5),
        ),
    ),
    goes_with=((NORMED, ("pre",)),),
)
class LayerScaleSkip(ScaledBranch):
    """``x + s ⊙ F(LN(x))`` with a learned s for each feature, from a small value.

    Source: Touvron, Cord, Sablayrolles, Synnaeve, Jégou 2021, arXiv:2103.17239.
    """

    @classmethod
    def build(cls, site: Site, scale: float = 1e-4) -> "LayerScaleSkip":
        return cls(scale, site.dim)
