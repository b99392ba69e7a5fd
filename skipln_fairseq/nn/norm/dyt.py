"""Dynamic Tanh: a bound in the place of a norm."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Paper
from .base import NORMS, Norm

__all__ = ["DynamicTanh"]


@NORMS.declare(
    "dyt",
    title="Dynamic Tanh",
    equation="w ⊙ tanh(αv) + b, α from 0.5",
    paper=Paper("Zhu et al. 2025", "2503.10622"),
    kind="token",
)
class DynamicTanh(Norm, nn.Module):
    """``DyT(v) = w ⊙ tanh(αv) + b`` with one learned α, which starts at 0.5: no statistics at all.

    Source: Zhu, Chen, He, LeCun, Liu 2025, arXiv:2503.10622.
    """

    def __init__(self, dim: int, alpha: float = 0.5):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.weight * torch.tanh(self.alpha * v) + self.bias
