"""What the three DetachNorms have in common."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..kernels.chain import Norming, Part
from ..precision import single
from .base import Centred

__all__ = ["Detached"]


class Detached(Centred, nn.Module):
    """``(v − μ) / √(σ² + eps)``; :meth:`moments` says which of the two carries a gradient.

    The deviation is the biased one over the features, with eps under the root, as in LayerNorm; the authors' published
    code takes the unbiased one and adds eps to it. There is no gain and no bias, as in the paper.

    Source: Xu, Sun, Zhang, Zhao, Lin: "Understanding and Improving Layer Normalization", NeurIPS 2019,
    arXiv:1911.07013.
    """

    kind = Part.NORM | Part.CENTRED
    """What of it carries a gradient, for kernels."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        wide = single(v)
        mean, deviation = self.moments(wide)
        return ((wide - mean) / deviation).to(v.dtype)

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v, dim=-1, correction=0, keepdim=True)
        return mean, (variance + self.eps).sqrt()

    def norming(self) -> Norming:
        return Norming(self.kind, self.eps)
