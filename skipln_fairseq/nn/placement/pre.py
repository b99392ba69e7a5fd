"""Pre-LN."""

from typing import Optional

from torch import Tensor

from ..kernels.chain import Link
from ..variant import Paper
from .base import PLACEMENTS, Connection

__all__ = ["Pre"]


@PLACEMENTS.declare(
    "pre",
    title="Pre-LN",
    equation="x + F(N(x))",
    paper=Paper("Xiong et al. 2020", "2002.04745"),
)
class Pre(Connection):
    """``y = skip(F(N(x)), x)``: the norm stands before F (Xiong et al. 2020, arXiv:2002.04745)."""

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self(self.skip.read(stream), padding_mask)

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.write(self.skip(f_x, stream, padding_mask), f_x, stream)

    def chain(self) -> Optional[list[Link]]:
        return self.skip.chain()
