"""Skips with learned factors, one for the sub-layer or one for each feature."""

from typing import Optional

import torch
from torch import Tensor, nn

from .base import Skip

__all__ = ["BranchScale", "LearnedSkip"]


class LearnedSkip(Skip):
    """``λ ⊙ x + F(x)`` with a learned λ: xSkip whose scale is left to the optimiser.

    Args:
        scale: the first value of λ.
        size: 1 for one λ, dim for one of each feature.
    """

    def __init__(self, scale: float, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((size,), scale))

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.scale * stream + f_x


class BranchScale(Skip):
    """``x + s ⊙ F(x)`` with a learned s.

    ReZero is a single s from 0 and no norm (Bachlechner et al. 2020, arXiv:2003.04887), in the authors' code one
    parameter for all sub-layers of a layer (``SkipOptions.shared``); LayerScale one s for each feature, from a small
    value, with F(LN(x)) (Touvron et al. 2021, arXiv:2103.17239).

    Args:
        scale: the first value of s.
        size: 1 for one s, dim for one of each feature.
    """

    def __init__(self, scale: float, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((size,), scale))

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + self.scale * f_x
