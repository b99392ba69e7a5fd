"""xSkip: a skip with a constant factor."""

from typing import Optional

import torch
from torch import Tensor

from ..variant import Option, Paper
from .base import ANYWHERE, NORMED, SKIPS, Coefficients, Link, Skip

__all__ = ["ExpandedSkip"]


@SKIPS.declare(
    "expanded",
    title="xSkip, xSkip+LN",
    equation="λx + F(x), λ fixed",
    paper=Paper("Liu et al. 2020a", "2105.07205"),
    options=(
        Option(
            "scale",
            "skip_scale",
            "scale of x: fixed in expanded, the first value in learned (--skip-scale=-1e-3 with =)",
            "λ",
        ),
    ),
    goes_with=(*ANYWHERE, (NORMED, ("keel",))),
    example="--skip-scale 2",
)
class ExpandedSkip(Skip):
    """``λx + F(x)`` with a fixed λ (xSkip): λ is a constant, neither learned nor stored.

    Source: Liu, Ren, Zhang, Sun, Zou 2020, arXiv:2105.07205, as far as it is known ("Fidelity" in docs/connections.md).

    Args:
        scale: λ, any finite number.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.scale * stream + f_x

    def chain(self) -> list[Link]:
        return [Link(of_x=self.scale)]

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return torch.as_tensor(self.scale, dtype=x.dtype, device=x.device), x.new_ones(())

    def extra_repr(self) -> str:
        return f"scale={self.scale}"
