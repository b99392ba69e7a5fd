"""GPAS: a gate that scales the activations and leaves their gradients."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Paper
from .base import NORMED, SKIPS, TOKEN, Coefficients, Site, Skip

__all__ = ["GPASAfter", "GPASBefore", "GPASSkip"]


@SKIPS.declare(
    "gpas",
    title="GPAS",
    equation="y − SiLU(g) y with y = x + F(x), or x − SiLU(g) x in the sum where a norm follows, what is taken away "
    "a constant in the backward; g from 0, one for each layer",
    paper=Paper("Chen et al. 2025b", "2506.22049"),
    goes_with=(
        (NORMED, ("pre", "sandwich", "res-post", "post", "mix", "lns", "hybrid", "hybrid-star")),
        (TOKEN, ("sub",)),
    ),
)
class GPASSkip(Skip):
    """A gate ``s(v) = v − SiLU(g) stopgrad(v)``: the value times ``1 − SiLU(g)``, the gradient of v unchanged.

    Its sum is ``s(x + F(x))``; where a norm follows, which would undo that, it is ``s(x) + F(x)``. The learned g is a
    scalar of the layer, which its sub-layers share, from 0: the plain skip at first. The authors clip g's gradient to
    0.01 in some runs of a billion parameters.

    Source: Chen, Xu, Liu, Li, Song et al. 2025, arXiv:2506.22049, and its authors' code.

    Args:
        gate: g, a parameter without dimensions.
    """

    def __init__(self, gate: nn.Parameter):
        super().__init__()
        self.gate = gate

    @classmethod
    def build(cls, site: Site) -> "GPASSkip":
        gate = site.first.gate if isinstance(site.first, GPASSkip) else nn.Parameter(torch.zeros(()))
        return GPASBefore(gate) if site.norm_follows else GPASAfter(gate)

    def taken(self) -> Tensor:
        """SiLU(g), in single precision or better."""
        return F.silu(self.gate.to(torch.promote_types(self.gate.dtype, torch.float32)))

    def scaled(self, v: Tensor) -> Tensor:
        """s(v)."""
        return v - self.taken().to(v.dtype) * v.detach()


class GPASAfter(GPASSkip):
    """``s(x + F(x))``."""

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.scaled(stream + f_x)

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        factor = 1 - self.taken().to(x.dtype)
        return factor, factor


class GPASBefore(GPASSkip):
    """``s(x) + F(x)``, for a norm to follow."""

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.scaled(stream) + f_x

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return 1 - self.taken().to(x.dtype), x.new_ones(())
