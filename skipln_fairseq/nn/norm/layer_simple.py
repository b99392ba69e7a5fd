"""LayerNorm without gain and bias."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.chain import Norming, Part
from ..variant import Paper
from .base import NORMS, Centred

__all__ = ["LayerNormSimple"]


@NORMS.declare(
    "layer-simple",
    title="LayerNorm-simple",
    equation="(v − μ)/σ",
    paper=Paper("Xu et al. 2019", "1911.07013"),
    kind="token",
)
class LayerNormSimple(Centred, nn.Module):
    """``(v − μ) / √(σ² + eps)``: LayerNorm without gain and bias.

    Source: Xu, Sun, Zhang, Zhao, Lin 2019, arXiv:1911.07013.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.layer_norm(v, [self.dim], None, None, self.eps)

    def norming(self) -> Norming:
        return Norming(Part.LAYER, self.eps)
