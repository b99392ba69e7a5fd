"""SeeDNorm: RMSNorm whose gain follows from the token."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Paper
from .base import NORMS, Uncentred

__all__ = ["SeeDNorm"]


@NORMS.declare(
    "seed",
    title="SeeDNorm",
    equation="(γ + tanh(v·β) α) ⊙ v/√mean(v²), γ and α from 1, β from 0",
    paper=Paper("Cai et al. 2025", "2510.22777"),
    kind="token",
)
class SeeDNorm(Uncentred, nn.Module):
    """``(γ + tanh(v·β) α) ⊙ v / √(mean(v²) + eps)``, v·β one number of a token, with α, β and γ of a number a feature.

    γ (here ``weight``) and α start at 1, β at 0: RMSNorm at first. The paper lets weight decay act on α and β. It is
    the form of one head, which the paper has for language. The sum v·β is single precision or better.

    Source: Cai, Zhu, Liu, Min: "SeeDNorm: Self-Rescaled Dynamic Normalization", ICLR 2026, arXiv:2510.22777.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.alpha = nn.Parameter(torch.ones(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        sums = torch.promote_types(v.dtype, torch.float32)
        gate = torch.tanh((v.to(sums) * self.beta.to(sums)).sum(-1, keepdim=True)).to(v.dtype)
        return (self.weight + gate * self.alpha) * F.rms_norm(v, [v.size(-1)], None, self.eps)
