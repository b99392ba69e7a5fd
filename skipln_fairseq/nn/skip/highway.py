"""The highway connection: a learned gate between x and F(x), for every feature of every token."""

from typing import Optional

import torch
from torch import Tensor, nn

from .base import Skip

__all__ = ["HighwaySkip"]


class HighwaySkip(Skip):
    """``(1 − g) ⊙ x + g ⊙ F(x)`` with the gate ``g = sigmoid(Wx + b)``; b starts at −1, so that x prevails at first.

    Source: Srivastava, Greff, Schmidhuber 2015, arXiv:1505.00387.

    Args:
        dim: the feature dimension.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.gate = nn.Linear(dim, dim)
        nn.init.constant_(self.gate.bias, -1.0)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return torch.lerp(stream, f_x, torch.sigmoid(self.gate(stream)))
