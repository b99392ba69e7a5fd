"""RMSNorm."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.chain import Norming, Part
from ..variant import Paper
from .base import NORMS, Uncentred

__all__ = ["RMSNorm"]


@NORMS.declare(
    "rms",
    title="RMSNorm",
    equation="w ⊙ v/√mean(v²)",
    paper=Paper("Zhang & Sennrich 2019", "1910.07467"),
    kind="token",
)
class RMSNorm(Uncentred, nn.RMSNorm):
    """``w ⊙ v / √(mean(v²) + eps)``: no mean is taken away, no bias added.

    Source: Zhang, Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__(dim, eps)

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.rms_norm(v, self.normalized_shape, self.weight, self.eps)

    def norming(self) -> Optional[Norming]:
        return None if self.eps is None else Norming(Part.RMS, self.eps, self.weight)
