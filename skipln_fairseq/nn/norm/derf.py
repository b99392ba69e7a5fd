"""Derf: the error function in the place of a norm."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Paper
from .base import NORMS, Norm

__all__ = ["DynamicErf"]


@NORMS.declare(
    "derf",
    title="Derf",
    equation="w ⊙ erf(αv + s) + b, α from 0.5, s from 0",
    paper=Paper("Chen et al. 2025", "2512.10938"),
    kind="token",
)
class DynamicErf(Norm, nn.Module):
    """``Derf(v) = w ⊙ erf(αv + s) + b`` with one learned α, from 0.5, and one learned s, from 0: no statistics at all.

    Source: Chen, Lu, Zhu, Sun, Liu: "Stronger Normalization-Free Transformers", 2025, arXiv:2512.10938.
    """

    def __init__(self, dim: int, alpha: float = 0.5):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.shift = nn.Parameter(torch.tensor(0.0))
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.weight * torch.erf(self.alpha * v + self.shift) + self.bias
