"""No norm."""

from typing import Optional

from torch import Tensor, nn

from ..kernels.chain import Norming
from ..variant import Paper
from .base import NORMS, Norm

__all__ = ["NoNorm"]


@NORMS.declare(
    "none",
    title="no norm",
    equation="v",
    paper=Paper("Liu et al. 2020a", "2105.07205"),
    kind="none",
    example="--skip-type expanded --skip-scale 0.5",
)
class NoNorm(Norm, nn.Module):
    """``N(v) = v``: the connection without a norm. ``dim`` is taken for the registry's sake."""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return v

    def norming(self) -> Norming:
        return Norming(0, 0.0)
