"""LAuReL-RW: x and F(x) with learned weights."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Option, Paper
from .base import ANYWHERE, SKIPS, Coefficients, Site, Skip

__all__ = ["LaurelWeights"]


@SKIPS.declare(
    "laurel-rw",
    title="LAuReL-RW",
    equation="αF(x) + βx, (α, β) = c · softmax of two learned numbers from 0",
    paper=Paper("Menghani et al. 2024", "2411.07501"),
    options=(
        Option(
            "total",
            "laurel_total",
            "what LAuReL's two weights sum to (default: 1)",
            "c",
            above=0,
            default=1.0,
        ),
    ),
    goes_with=ANYWHERE,
)
class LaurelWeights(Skip):
    """``α F(x) + β x`` with ``(α, β) = c · softmax(l)``, l two learned numbers of the sub-layer.

    The paper bounds its two weights by a softmax or sigmoid; of these it is the softmax, c = 1. Where l starts is not
    said there; here at 0, so that both weights are c/2, and with c = 2 it is the plain skip at first.

    Source: Menghani, Kumar, Kumar: "LAuReL: Learned Augmented Residual Layer", ICML 2025, arXiv:2411.07501.

    Args:
        total: c.
    """

    def __init__(self, total: float = 1.0):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))
        self.total = total

    @classmethod
    def build(cls, site: Site, total: float = 1.0) -> "LaurelWeights":
        return cls(total)

    def weights(self) -> Tensor:
        """α and β, in single precision or better."""
        logits = self.logits
        return self.total * logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(0)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        weights = self.weights().to(f_x.dtype)
        return weights[0] * f_x + weights[1] * stream

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        weights = self.weights().to(x.dtype)
        return weights[1], weights[0]
