"""The encoder's end."""

from typing import List

from torch import Tensor

from ..variant import Paper
from .base import SOURCES, Source

__all__ = ["Last"]


@SOURCES.declare(
    "last",
    title="the encoder's end",
    equation="all blocks of the decoder attend to what the encoder ends with",
    paper=Paper("Vaswani et al. 2017", "1706.03762"),
)
class Last(Source):
    """What the encoder ends with, for all."""

    def forward(self, x: Tensor, outputs: List[Tensor]) -> List[Tensor]:
        return [x]
