"""The highway connection: a learned gate between x and F(x), for every feature of every token."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Paper
from .base import ANYWHERE, SKIPS, Coefficients, Site, Skip

__all__ = ["HighwaySkip"]


@SKIPS.declare(
    "highway",
    title="highway connection",
    equation="(1 − g) ⊙ x + g ⊙ F(x), g = sigmoid(Wx + b)",
    paper=Paper("Srivastava et al. 2015", "1505.00387"),
    goes_with=ANYWHERE,
)
class HighwaySkip(Skip):
    """``(1 − g) ⊙ x + g ⊙ F(x)`` with the gate ``g = sigmoid(Wx + b)``; b starts at −1, so that x prevails at first.

    Source: Srivastava, Greff, Schmidhuber 2015, arXiv:1505.00387.

    Args:
        dim: the feature dimension.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.gate = nn.Linear(dim, dim)
        nn.init.constant_(self.gate.bias, -1.0)

    @classmethod
    def build(cls, site: Site) -> "HighwaySkip":
        return cls(site.dim)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        # not torch.lerp, which wants one type of all three: under autocast the stream may have another
        return stream + torch.sigmoid(self.gate(stream)) * (f_x - stream)

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        gate = torch.sigmoid(self.gate(x))  # counts as a constant
        return 1 - gate, gate
