"""Norms of Xu, Sun, Zhang, Zhao, Lin: "Understanding and Improving Layer Normalization", NeurIPS 2019,
arXiv:1911.07013, in whose backward some part of the forward counts as a constant.

All take the biased deviation over the features, with eps under the root, as LayerNorm does; the authors'
published code takes the unbiased one and adds eps to it. None has a gain or a bias, as in the paper.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AdaNorm", "DetachDeviationNorm", "DetachMeanNorm", "DetachNorm"]


class _Detached(nn.Module):
    """``(v − μ) / √(σ² + eps)``; :meth:`moments` says which of the two carries a gradient."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        mean, deviation = self.moments(v)
        return (v - mean) / deviation

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v, dim=-1, correction=0, keepdim=True)
        return mean, (variance + self.eps).sqrt()


class DetachNorm(_Detached):
    """DetachNorm: mean and deviation are constants, so the backward is ``g / σ``."""

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v.detach(), dim=-1, correction=0, keepdim=True)
        return mean, (variance + self.eps).sqrt()


class DetachMeanNorm(_Detached):
    """DetachNorm of the mean only: the deviation's gradient ``−y · mean(g ⊙ y) / σ`` stays."""

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v, dim=-1, correction=0, keepdim=True)
        return mean.detach(), (variance + self.eps).sqrt()


class DetachDeviationNorm(_Detached):
    """DetachNorm of the deviation only: the mean's gradient ``−mean(g) / σ`` stays."""

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v, dim=-1, correction=0, keepdim=True)
        return mean, (variance.detach() + self.eps).sqrt()


class AdaNorm(nn.Module):
    """``C (1 − k y) ⊙ y`` with ``y = (v − μ) / √(σ² + eps)`` and the bracket a constant in the backward.

    Args:
        dim: the feature dimension.
        scale: C. The paper's scripts use 1 and 2, by task.
        slope: k, 0.1 in the paper. The bracket is positive as long as ``y < 1/k``.
        eps: under the root.
    """

    def __init__(self, dim: int, scale: float = 1.0, slope: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.dim = dim
        self.scale = scale
        self.slope = slope
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        y = F.layer_norm(v, [self.dim], None, None, self.eps)
        return self.scale * (1 - self.slope * y.detach()) * y
