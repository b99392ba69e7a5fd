"""PCformer's predictor of second order."""

from typing import List, Optional

import torch
from torch import Tensor, nn

from ..mixing.base import Place
from ..variant import Option, Paper
from .base import SOLVERS, TOKEN_ANYWHERE, Solver

__all__ = ["PER_BLOCK", "MovingAverage2"]

PER_BLOCK = Option("per_block", "ema_per_block", "an α for each block", default=False)


@SOLVERS.declare(
    "ema2",
    title="PCformer's predictor, order 2",
    equation="y' = y + α(1 − α)F₁ + αF₂, F as in RK2, α from 0.5",
    paper=Paper("Li et al. 2024", "2411.03042"),
    options=(PER_BLOCK,),
    goes_with=TOKEN_ANYWHERE,
    example="--skip-type plain --norm-placement pre",
)
class MovingAverage2(Solver):
    """``y' = y + Σ_k α (1 − α)^(n − k) F_k`` of n stages, the weights of an exponential moving average.

    F_k are those of ``rk2``. α is one learned number for the stack, or for each block, and starts as 0.5. This is the
    predictor of PCformer alone; ``pc2`` has its corrector too. The code's norm on each F_k is not here, nor an α for
    each feature.
    Source: Li, Zheng, Wang, Liu, Guo, Guo, Tan, Xiao, Zhu, Wang, Cai, NeurIPS 2024, arXiv:2411.03042.
    """

    steps: tuple[float, ...] = (1.0,)

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.5))

    @classmethod
    def build(cls, place: Place, first: Optional[Solver], per_block: bool = False) -> Solver:
        return cls() if first is None or per_block else first

    def forward(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        return self.average(y, outputs)

    def average(self, y: Tensor, outputs: List[Tensor]) -> Tensor:
        """y' of y and the stages."""
        decay = 1 - self.alpha
        total = outputs[0]
        for i in range(1, len(outputs)):
            total = decay * total + outputs[i]
        return y + self.alpha * total
