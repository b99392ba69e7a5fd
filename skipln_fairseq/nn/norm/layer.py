"""LayerNorm."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.chain import Norming, Part
from ..variant import Paper
from .base import NORMS, Centred

__all__ = ["LayerNorm"]


@NORMS.declare(
    "layer",
    title="LayerNorm",
    equation="w ⊙ (v − μ)/σ + b",
    paper=Paper("Ba et al. 2016", "1607.06450"),
    kind="token",
)
class LayerNorm(Centred, nn.LayerNorm):
    """``LN(v) = w ⊙ (v − μ) / √(σ² + eps) + b``, with μ and the biased σ² over the last dimension.

    Always torch's own kernel (stock fairseq takes apex's on a GPU where apex is installed), so
    that it scripts and exports as it stands.

    Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    """

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return F.layer_norm(v, self.normalized_shape, self.weight, self.bias, self.eps)

    def norming(self) -> Norming:
        return Norming(Part.LAYER, self.eps, self.weight, self.bias)
