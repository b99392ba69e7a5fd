"""ScaleNorm."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import single
from ..variant import Paper
from .base import NORMS, Uncentred

__all__ = ["ScaleNorm"]


@NORMS.declare(
    "scale",
    title="ScaleNorm",
    equation="g v/‖v‖, g from √d",
    paper=Paper("Nguyen & Salazar 2019", "1910.05895"),
    kind="token",
)
class ScaleNorm(Uncentred, nn.Module):
    """``g · v / max(‖v‖₂, eps)`` with one learned g, which starts at √dim.

    Source: Nguyen, Salazar 2019, arXiv:1910.05895.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(dim) ** 0.5))
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.weight * F.normalize(single(v), dim=-1, eps=self.eps).to(v.dtype)
