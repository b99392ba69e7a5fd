"""Normalisations over the feature dimension. ``NORMS`` is the registry behind ``--skip-norm``."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NORMS", "LayerNorm", "NoNorm"]


class LayerNorm(nn.LayerNorm):
    """``LN(v) = w ⊙ (v − μ) / √(σ² + eps) + b``, with μ and the biased σ² over the last dimension.

    Always torch's own kernel (stock fairseq takes apex's on a GPU where apex is installed), so
    that it scripts and exports as it stands.

    Shapes: ``v`` (…, dim) → (…, dim). Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    """

    def forward(self, v: Tensor) -> Tensor:
        return F.layer_norm(v, self.normalized_shape, self.weight, self.bias, self.eps)


class NoNorm(nn.Module):
    """``N(v) = v``: the connection without a norm. ``dim`` is taken for the registry's sake.

    Shapes: ``v`` (…, dim) → (…, dim).
    """

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, v: Tensor) -> Tensor:
        return v


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": LayerNorm,
    "none": NoNorm,
}
