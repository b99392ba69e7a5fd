"""Norms that look at one token's features, and whose backward is the forward's derivative."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DynamicTanh", "LayerNorm", "LayerNormSimple", "NoNorm", "RMSNorm", "ScaleNorm"]


class LayerNorm(nn.LayerNorm):
    """``LN(v) = w ⊙ (v − μ) / √(σ² + eps) + b``, with μ and the biased σ² over the last dimension.

    Always torch's own kernel (stock fairseq takes apex's on a GPU where apex is installed), so
    that it scripts and exports as it stands.

    Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    """

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.layer_norm(v, self.normalized_shape, self.weight, self.bias, self.eps)


class LayerNormSimple(nn.Module):
    """``(v − μ) / √(σ² + eps)``: LayerNorm without gain and bias.

    Source: Xu, Sun, Zhang, Zhao, Lin 2019, arXiv:1911.07013.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.layer_norm(v, [self.dim], None, None, self.eps)


class RMSNorm(nn.RMSNorm):
    """``w ⊙ v / √(mean(v²) + eps)``: no mean is taken away, no bias added.

    Source: Zhang, Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__(dim, eps)

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.rms_norm(v, self.normalized_shape, self.weight, self.eps)


class ScaleNorm(nn.Module):
    """``g · v / max(‖v‖₂, eps)`` with one learned g, which starts at √dim.

    Source: Nguyen, Salazar 2019, arXiv:1910.05895.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(dim) ** 0.5))
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.weight * F.normalize(v, dim=-1, eps=self.eps)


class DynamicTanh(nn.Module):
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


class NoNorm(nn.Module):
    """``N(v) = v``: the connection without a norm. ``dim`` is taken for the registry's sake."""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return v
