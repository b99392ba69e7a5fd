"""Skips with constant factors."""

from typing import Optional

from torch import Tensor

from .base import Chain, Skip

__all__ = ["ExpandedSkip", "PlainSkip"]


class PlainSkip(Skip):
    """``x + F(x)``: the connection of He et al. 2016, arXiv:1512.03385."""

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + f_x

    def chain(self) -> Chain:
        return Chain(1.0, ())


class ExpandedSkip(Skip):
    """``λx + F(x)`` with a fixed λ (xSkip): λ is a constant, neither learned nor stored.

    Source: Liu, Ren, Zhang, Sun, Zou 2020, arXiv:2105.07205, as far as it is known (see "Fidelity" in the README).

    Args:
        scale: λ, any finite number.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.scale * stream + f_x

    def chain(self) -> Chain:
        return Chain(self.scale, ())

    def extra_repr(self) -> str:
        return f"scale={self.scale}"
