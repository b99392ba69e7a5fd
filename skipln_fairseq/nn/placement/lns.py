"""LayerNorm Scaling: Pre-LN whose norms shrink with the depth."""

from typing import Optional

from torch import Tensor, nn

from ..skip.base import Site
from ..variant import Option, Paper
from .base import PLACEMENTS
from .pre import Pre

__all__ = ["LayerNormScaling"]


@PLACEMENTS.declare(
    "lns",
    title="LayerNorm Scaling",
    equation="x + F(N(x)/√l) in layer l",
    paper=Paper("Sun et al. 2025", "2502.05795"),
    options=(
        Option(
            "gain", "lns_gain", "1/√l is the first value of the norm's gain, and no constant", default=False
        ),
    ),
)
class LayerNormScaling(Pre):
    """``y = skip(F(N(x)/√l), x)``, l the number of the layer in its side from 1, in all sub-layers of the layer.

    There are two readings. The paper's, which is meant here unless told otherwise, has a constant. In the code of
    others (GPAS', ProRes') 1/√l is the first value of the norm's gain, which is then learned: ``gain``. The paper is
    about decoders alone; that cross-attention counts as any sub-layer is this plugin's.

    Source: Sun, Song, Li, Yin, Zheng, Liu: "The Curse of Depth in Large Language Models", NeurIPS 2025,
    arXiv:2502.05795.
    """

    @classmethod
    def refuses(cls, norm: type[nn.Module], gain: bool = False) -> str:
        has_gain = isinstance(getattr(norm(1), "weight", None), nn.Parameter)
        return "" if has_gain or not gain else "--lns-gain needs a norm with a gain"

    def settle(self, site: Site, gain: bool = False) -> None:
        factor = (site.layer + 1) ** -0.5
        self.depth_factor = 1.0 if gain else factor
        if gain:
            self.scale_gain(factor)

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.depth_factor * self(self.skip.read(stream), padding_mask)
