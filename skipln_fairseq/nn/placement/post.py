"""Post-LN."""

from typing import Optional

from torch import Tensor

from ..kernels.chain import Link
from ..variant import Paper
from .base import PLACEMENTS, Connection

__all__ = ["Post"]


@PLACEMENTS.declare(
    "post",
    title="Post-LN",
    equation="N(x + F(x))",
    paper=Paper("Vaswani et al. 2017", "1706.03762"),
)
class Post(Connection):
    """``y = N(skip(F(x), x))``: the norm stands after the sum (Vaswani et al. 2017, arXiv:1706.03762)."""

    ends_with_norm = False

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.read(stream)

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        y = self(self.skip(f_x, stream, padding_mask), padding_mask)
        return self.skip.write(y, f_x, stream)

    def chain(self) -> Optional[list[Link]]:
        links = self.skip.chain()
        return None if links is None else [*links[:-1], links[-1]._replace(norm=self)]
