"""Res-Post-LN."""

from typing import Optional

from torch import Tensor

from ..variant import Paper
from .base import PLACEMENTS, Connection

__all__ = ["ResPost"]


@PLACEMENTS.declare(
    "res-post",
    title="Res-Post-LN",
    equation="x + N(F(x))",
    paper=Paper("Liu et al. 2021", "2111.09883"),
)
class ResPost(Connection):
    """``y = skip(N(F(x)), x)``: the norm stands on the branch, after F (Liu et al. 2021, arXiv:2111.09883)."""

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.read(stream)

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        f_x = self(f_x, padding_mask)
        return self.skip.write(self.skip(f_x, stream, padding_mask), f_x, stream)
