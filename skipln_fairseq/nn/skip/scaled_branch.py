"""Skips with a learned factor of F(x), which ReZero and LayerScale are."""

from typing import Optional

import torch
from torch import Tensor, nn

from .base import Coefficients, Link, Skip

__all__ = ["ScaledBranch"]


class ScaledBranch(Skip):
    """``x + s ⊙ F(x)`` with a learned s.

    Args:
        scale: the first value of s.
        size: 1 for one s, dim for one of each feature.
    """

    def __init__(self, scale: float, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((size,), scale))

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + self.scale * f_x

    def chain(self) -> list[Link]:
        return [Link(of_y=self.scale)]

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return x.new_ones(()), self.scale
