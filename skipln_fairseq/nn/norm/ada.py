"""AdaNorm."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.chain import Norming, Part
from ..variant import Option, Paper
from .base import NORMS, Centred

__all__ = ["AdaNorm"]


@NORMS.declare(
    "ada",
    title="AdaNorm",
    equation="C(1 − ky) ⊙ y, y = (v − μ)/σ, the bracket a constant in the backward",
    paper=Paper("Xu et al. 2019", "1911.07013"),
    kind="token",
    options=(
        Option("scale", "adanorm_scale", "C (default: 1)", "C", above=0, default=1.0),
        Option("slope", "adanorm_slope", "k (default: 0.1)", "k", default=0.1, drawn=(0, 0.2)),
    ),
)
class AdaNorm(Centred, nn.Module):
    """``C (1 − k y) ⊙ y`` with ``y = (v − μ) / √(σ² + eps)`` and the bracket a constant in the backward.

    Source: Xu, Sun, Zhang, Zhao, Lin: "Understanding and Improving Layer Normalization", NeurIPS 2019,
    arXiv:1911.07013.

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

    def norming(self) -> Norming:
        return Norming(Part.LAYER | Part.BRACKET, self.eps, scale=self.scale, slope=self.slope)
