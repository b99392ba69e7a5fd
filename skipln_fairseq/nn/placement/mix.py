"""Mix-LN: Post-LN in the first layers, Pre-LN in the others."""

from ..skip.base import Site
from ..variant import Option, Paper
from .base import PLACEMENTS, Connection
from .post import Post
from .pre import Pre

__all__ = ["Mix"]


@PLACEMENTS.declare(
    "mix",
    title="Mix-LN",
    equation="N(x + F(x)) in the first ⌊aL⌋ of L layers, x + F(N(x)) in the others",
    paper=Paper("Li et al. 2024", "2412.13795"),
    options=(
        Option(
            "part",
            "mix_share",
            "share of the layers that are Post-LN (default: 0.25)",
            "a",
            least=0,
            most=1,
            default=0.25,
            drawn=(0.3, 1.0),
        ),
    ),
    from_depth=True,
)
class Mix(Pre):
    """:class:`.Post` in the first ``⌊a L⌋`` layers of a side's L, :class:`.Pre` in the others, and a norm at the end.

    With a = 0 it is Pre-LN; with a = 1 it is Post-LN, without a norm at the end. The paper is about decoders alone:
    that encoder and decoder count their own layers is this plugin's.

    Source: Li, Yin, Liu 2024, arXiv:2412.13795, as the code of LNS and GPAS has it too.
    """

    is_one_kind = False

    @classmethod
    def at(cls, site: Site, part: float = 0.25) -> type[Connection]:
        layers = dict(zip(("encoder", "decoder"), site.depth, strict=True))[site.side]
        # rounded first: 0.29 · 100 is a little less than 29
        return Post if site.layer < int(round(part * layers, 6)) else Pre
