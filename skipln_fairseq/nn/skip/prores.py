"""ProRes: branches that come in over the first updates, layer after layer."""

from ..variant import Option, Paper
from .base import NORMED, SKIPS, TOKEN, Site
from .scheduled import ScheduledBranch

__all__ = ["ProResSkip"]


@SKIPS.declare(
    "prores",
    title="ProRes",
    equation="x + αF(x), α = min(t/(Tl), 1) after t updates in layer l",
    paper=Paper("Chen et al. 2026", "2603.05369"),
    options=(
        Option(
            "steps",
            "prores_updates",
            "in how many updates the branches of one more layer are in (default: 1000)",
            "T",
            int,
            least=1,
            default=1000,
            drawn=(2, 9),
        ),
    ),
    goes_with=(
        (NORMED, ("pre", "post", "res-post", "sandwich", "mix", "lns", "hybrid", "hybrid-star")),
        (TOKEN, ("sub",)),
    ),
)
class ProResSkip(ScheduledBranch):
    """``x + α F(x)`` with ``α = min(t/(T l), 1)``, t the updates made and l the layer's number from 1.

    The branches of layer l count in full after T l updates. It is the linear schedule of the authors' code, which asks
    for the sum T L over all layers; there α is no part of a checkpoint. Encoder and decoder count their own layers.

    Source: Chen, Xu, Yin, Chen, Wang, Diao, Yang: "Progressive Residual Warmup for Language Model Pretraining", 2026,
    arXiv:2603.05369, and its authors' code.
    """

    @classmethod
    def build(cls, site: Site, steps: int = 1000) -> "ProResSkip":
        return cls(steps * (site.layer + 1))
