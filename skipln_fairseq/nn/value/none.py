"""Each block's own values."""

from typing import List

from torch import Tensor

from ..variant import Paper
from .base import VALUES, ValueResidual

__all__ = ["OwnValues"]


@VALUES.declare(
    "none",
    title="no value residual",
    equation="self-attention of block l sums Vₗ",
    paper=Paper("Vaswani et al. 2017", "1706.03762"),
)
class OwnValues(ValueResidual):
    """``V_l``. A stack of these has none of these modules."""

    def forward(self, v: Tensor, memory: List[Tensor]) -> Tensor:
        return v
