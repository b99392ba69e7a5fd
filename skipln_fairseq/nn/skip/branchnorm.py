"""BranchNorm: Post-LN whose branches come in over the first updates."""

from ..variant import Option, Paper
from .base import NORMED, SKIPS, Site
from .scheduled import ScheduledBranch

__all__ = ["BranchNormSkip"]


@SKIPS.declare(
    "branchnorm",
    title="BranchNorm",
    equation="N(x + αF(x)), α = min(t/T, 1) after t updates",
    paper=Paper("Liu et al. 2023", "2305.02790"),
    options=(
        Option(
            "steps",
            "branchnorm_updates",
            "after how many updates BranchNorm is Post-LN",
            "T",
            int,
            least=1,
            drawn=(2, 9),
        ),
    ),
    goes_with=((NORMED, ("post",)),),
    example="--branchnorm-updates 4000",
)
class BranchNormSkip(ScheduledBranch):
    """``x + α F(x)`` under a norm after the sum, ``α = min(t/T, 1)`` with t the updates made: in the end Post-LN.

    The paper names T its maximum norm step. Its value there was not to be had (4,000 from memory), so it is asked for,
    and so the linear rise is from memory too: no code of its authors is public.

    Source: Liu, Zeng, Meng, Zhou: "BranchNorm: Robustly Scaling Extremely Deep Transformers", Findings of ACL 2024,
    arXiv:2305.02790.
    """

    @classmethod
    def build(cls, site: Site, steps: int) -> "BranchNormSkip":
        return cls(steps)
