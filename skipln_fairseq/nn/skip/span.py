"""SpanNorm: a layer's last sub-layer has its skip from the layer's input."""

from typing import Optional

from torch import Tensor

from ..variant import Paper
from .b2t import BottomFirst, BottomLast, BottomMiddle
from .base import NORMED, SKIPS, Coefficients, Site, Skip

__all__ = ["SpanLast", "SpanSkip"]


@SKIPS.declare(
    "span",
    title="SpanNorm",
    equation="N(x + F(x)), in a layer's last sub-layer N(x_layer + F(x))",
    paper=Paper("Meituan & Northeastern University 2026", "2601.22580"),
    goes_with=((NORMED, ("post",)),),
)
class SpanSkip(Skip):
    """``x + F(x)``, and in a layer's last sub-layer, the feed-forward, ``x_layer + F(x)`` with the layer's own input.

    Inside a layer the stream is ``(x, x_layer)``, between layers it is x, as in B2T. The paper is about decoders alone:
    that cross-attention, where there is one, is as the first sub-layer is this plugin's. Not here are the norm before
    the first layer, which is ``--layernorm-embedding``, and the paper's scaling of the first weights, whose definition
    was not to be had.

    Source: arXiv:2601.22580, by its abstract and code of others.
    """

    is_wide = True

    @classmethod
    def build(cls, site: Site) -> Skip:
        if site.index == 0:
            return BottomFirst()
        return SpanLast() if site.last else BottomMiddle()


class SpanLast(BottomLast):
    """The last sub-layer: ``x_layer + F(x)``."""

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream.chunk(2, -1)[1] + f_x

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return x.new_zeros(()), x.new_ones(())
