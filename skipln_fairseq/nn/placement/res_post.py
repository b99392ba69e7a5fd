"""Res-Post-LN."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from ..kernels.chain import Link
from ..variant import Paper
from .base import PLACEMENTS
from .pre import Pre

__all__ = ["ResPost"]


@PLACEMENTS.declare(
    "res-post",
    title="Res-Post-LN",
    equation="x + N(F(x))",
    paper=Paper("Liu et al. 2021", "2111.09883"),
)
class ResPost(Pre):
    """``y = skip(N(F(x)), x)``: the norm stands on the branch, after F (Liu et al. 2021, arXiv:2111.09883)."""

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.read(stream)

    def leave_in_steps(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        # the norm is part of the branch, which a dropped sentence loses
        f_x = self.drop_sentences(self(F.dropout(f_x, drop), padding_mask))
        return self.join(f_x, stream, padding_mask)

    def chain(self) -> Optional[list[Link]]:
        links = self.skip.chain()
        if links is None or (self.training and self.drop_path > 0):  # a sentence is dropped after the norm
            return None
        return [Link(of_x=0.0, norm=self), *links]
