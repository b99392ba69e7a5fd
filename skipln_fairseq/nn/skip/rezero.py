"""ReZero: a branch that starts at nothing."""

from ..variant import Paper
from .base import NONE, NORMED, SKIPS, Site
from .scaled_branch import ScaledBranch

__all__ = ["ReZeroSkip"]


@SKIPS.declare(
    "rezero",
    title="ReZero",
    equation="x + αF(x), α from 0, one for each layer",
    paper=Paper("Bachlechner et al. 2020", "2003.04887"),
    goes_with=((NONE, ("post",)), (NORMED, ("pre",))),
    has_forms=True,
)
class ReZeroSkip(ScaledBranch):
    """``x + α F(x)`` with a learned α from 0, and no norm.

    In the authors' code the sub-layers of a layer share one α. In the form that this plugin had first each has its own.

    Source: Bachlechner, Majumder, Mao, Cottrell, McAuley 2020, arXiv:2003.04887.
    """

    @classmethod
    def build(cls, site: Site) -> "ReZeroSkip":
        skip = cls(0.0, 1)
        if site.form == "authors" and isinstance(site.first, ReZeroSkip):
            skip.scale = site.first.scale
        return skip
