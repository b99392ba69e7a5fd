"""xSkip whose scale is learned."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Option
from .base import ANYWHERE, SKIPS, Coefficients, Link, Site, Skip

__all__ = ["LearnedSkip"]


@SKIPS.declare(
    "learned",
    title="learned scale",
    equation="λ ⊙ x + F(x), λ learned",
    paper="xSkip with a learned λ",
    options=(
        Option(
            "scale",
            "skip_scale",
            "scale of x: fixed in expanded, the first value in learned (--skip-scale=-1e-3 with =)",
            "λ",
            default=1.0,
        ),
        Option("vector", "skip_scale_vector", "learned: one scale for each feature", default=False),
    ),
    goes_with=ANYWHERE,
    example="--skip-scale-vector",
)
class LearnedSkip(Skip):
    """``λ ⊙ x + F(x)`` with a learned λ: xSkip whose scale is left to the optimiser.

    Args:
        scale: the first value of λ.
        size: 1 for one λ, dim for one of each feature.
    """

    def __init__(self, scale: float, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((size,), scale))

    @classmethod
    def build(cls, site: Site, scale: float = 1.0, vector: bool = False) -> "LearnedSkip":
        return cls(scale, site.dim if vector else 1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.scale * stream + f_x

    def chain(self) -> list[Link]:
        return [Link(of_x=self.scale)]

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return self.scale, x.new_ones(())
