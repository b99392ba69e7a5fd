"""PCformer of second order, predictor and corrector."""

from typing import List, Optional

import torch
from torch import Tensor, nn

from ..mixing.base import Place, weighted_sum
from ..skip.base import TOKEN
from ..variant import Paper
from .base import SOLVERS, Solver
from .ema2 import PER_BLOCK, MovingAverage2

__all__ = ["PRE", "PredictorCorrector2"]

PRE = ((TOKEN, ("pre",)),)


@SOLVERS.declare(
    "pc2",
    title="PCformer, order 2",
    equation="ỹ = Wₗₗ N(p) + Σₖ Wₗₖ zₖ, p the predictor's y', zₗ = N'(E(ỹ)), y' = Σₖ W'ₗₖ zₖ, z₀ the embedding; "
    "W and W' from 1/(l + 1)",
    paper=Paper("Li et al. 2024", "2411.03042"),
    options=(PER_BLOCK,),
    goes_with=PRE,
    example="--skip-type plain --norm-placement pre",
)
class PredictorCorrector2(MovingAverage2):
    """PCformer's corrector behind its predictor of second order (``ema2``), which makes p. In block l, from 1::

        ỹ = W_ll N_l(p) + Σ_{k<l} W_lk z_k
        z_l = N'_l(E(ỹ))
        y' = Σ_{k≤l} W'_lk z_k

    z_0 is the embedding, without a norm; W and W' are lower triangular, one scalar each, and start as the mean,
    1/(l + 1). E is applied once more than by the predictor. So it is in the code under the paper's name
    (rangehow/Neurips-PCformer; whether it is the authors' own is not known): its language model has it whole, and its
    translation model the same with W' commented out, so that that one does not run. It is for Pre-LN: with Post-LN the
    code drops what E made of ỹ. Not here are the code's norm on each F_k, and an α for each feature. The paper's text
    was not at hand; its first figure says that E is applied to p, its code applies it to ỹ.
    Source: Li, Zheng, Wang, Liu, Guo, Guo, Tan, Xiao, Zhu, Wang, Cai, NeurIPS 2024, arXiv:2411.03042.

    Args:
        place: of the block.
        alpha: that of the stack's first block, or None.
    """

    remembers = True

    def __init__(self, place: Place, alpha: Optional[nn.Parameter] = None):
        super().__init__()
        self.stages += 1
        self.alpha = self.alpha if alpha is None else alpha
        terms = place.layer + 2
        self.predicted = nn.Parameter(torch.full((terms,), 1 / terms))
        self.corrected = nn.Parameter(torch.full((terms,), 1 / terms))
        self.norms = nn.ModuleList([place.make_norm(place.dim) for _ in range(2)])

    @classmethod
    def build(cls, place: Place, first: Optional[Solver], per_block: bool = False) -> Solver:
        if isinstance(first, PredictorCorrector2) and not per_block:
            return cls(place, first.alpha)
        return cls(place)

    def read(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        if len(memory) == 0:
            memory.append(y)
        if len(outputs) <= len(self.fractions):
            return self.stage(y, outputs)
        memory.append(self.norms[0](self.average(y, outputs)))
        return weighted_sum(memory, self.predicted)

    def forward(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        memory[-1] = self.norms[1](outputs[-1])
        return weighted_sum(memory, self.corrected)
