"""RMSNorm whose gain is stored as its distance from one."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.chain import Norming, Part
from ..variant import Paper
from .base import NORMS, Uncentred

__all__ = ["ZeroCentredRMSNorm"]


@NORMS.declare(
    "rms-zero",
    title="RMSNorm, zero-centred",
    equation="(1 + w) ⊙ v/√mean(v²), w from 0",
    paper=Paper("Gemma Team 2024", "2403.08295"),
    kind="token",
)
class ZeroCentredRMSNorm(Uncentred, nn.Module):
    """``(1 + w) ⊙ v / √(mean(v²) + eps)`` with w from 0: RMSNorm, but that weight decay draws the gain to 1.

    Gemma's code has it so, as Eole's and x-transformers'.

    Source: of the norm, Zhang, Sennrich 2019, arXiv:1910.07467; of the form, the code of Gemma Team 2024,
    arXiv:2403.08295.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    @torch.no_grad()
    def scale_gain(self, factor: float) -> None:
        self.weight.add_(1).mul_(factor).sub_(1)

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.rms_norm(v, [v.size(-1)], 1 + self.weight, self.eps)

    def norming(self) -> Norming:
        return Norming(Part.RMS, self.eps, 1 + self.weight)
