"""ODE Transformer's block of second order with a learned γ."""

from typing import List, Optional

import torch
from torch import Tensor, nn

from ..mixing.base import Place
from ..variant import Paper
from .base import SOLVERS, TOKEN_ANYWHERE, Solver

__all__ = ["GatedRungeKutta2"]


@SOLVERS.declare(
    "rk2-gated",
    title="ODE Transformer, RK2 with learned γ",
    equation="y' = y + gF₁ + (1 − g)F₂, g = sigmoid(w · [F₁; F₂] + b), F as in RK2, w one for all blocks",
    paper=Paper("Li et al. 2022", "2203.09176"),
    goes_with=TOKEN_ANYWHERE,
    example="--skip-type plain --norm-placement pre",
)
class GatedRungeKutta2(Solver):
    """``y' = y + g F_1 + (1 − g) F_2`` with ``g = sigmoid(w · [F_1; F_2] + b)``, a number for each position.

    F_1 and F_2 are those of ``rk2``. w (2 dim) and b are one for the stack; w starts uniform within ±√(6/(2 dim + 1)),
    as Glorot has it, and b as 0. The gate is in single precision at least. As in the authors' code
    (``ode_transformer``, ``rk_type`` learnable).
    Source: Li, Du, Zhou, Jing, Zhou, Zeng, Xiao, Zhu, Liu, Zhang, ACL 2022, arXiv:2203.09176.

    Args:
        dim: the feature dimension.
    """

    steps = (1.0,)

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 2 * dim)))
        self.bias = nn.Parameter(torch.zeros(1))

    @classmethod
    def build(cls, place: Place, first: Optional[Solver]) -> Solver:
        return cls(place.dim) if first is None else first

    def forward(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        both = torch.cat(outputs, -1)
        if both.dtype == torch.float16 or both.dtype == torch.bfloat16:
            both = both.float()
        # a product of matrices would be in half precision under autocast
        products = (both * self.weight.to(both.dtype)).sum(-1, True)
        gate = (products + self.bias.to(both.dtype)).sigmoid().to(y.dtype)
        return y + gate * outputs[0] + (1 - gate) * outputs[1]
