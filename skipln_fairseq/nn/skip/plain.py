"""The residual connection."""

from typing import Optional

from torch import Tensor

from ..variant import Paper
from .base import ANYWHERE, SKIPS, Link, Skip

__all__ = ["PlainSkip"]


@SKIPS.declare(
    "plain",
    title="residual connection",
    equation="x + F(x)",
    paper=Paper("He et al. 2016", "1512.03385"),
    goes_with=ANYWHERE,
)
class PlainSkip(Skip):
    """``x + F(x)``: the connection of He et al. 2016, arXiv:1512.03385."""

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + f_x

    def chain(self) -> list[Link]:
        return [Link()]
