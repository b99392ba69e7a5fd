"""ODE Transformer's block of fourth order."""

from typing import List

from torch import Tensor

from ..variant import Paper
from .base import SOLVERS, TOKEN_ANYWHERE, Solver

__all__ = ["RungeKutta4"]


@SOLVERS.declare(
    "rk4",
    title="ODE Transformer, RK4",
    equation="F₁ = E(y), F₂ = E(y + ½F₁), F₃ = E(y + ½F₂), F₄ = E(y + F₃), y' = y + ⅙(F₁ + 2F₂ + 2F₃ + F₄)",
    paper=Paper("Li et al. 2022", "2203.09176"),
    goes_with=TOKEN_ANYWHERE,
    example="--skip-type plain --norm-placement pre",
)
class RungeKutta4(Solver):
    """``y' = y + (F_1 + 2 F_2 + 2 F_3 + F_4)/6``, the classical stages, as in the authors' code (``ode_transformer``).

    Source: Li, Du, Zhou, Jing, Zhou, Zeng, Xiao, Zhu, Liu, Zhang, ACL 2022, arXiv:2203.09176.
    """

    steps = (0.5, 0.5, 1.0)

    def forward(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        return y + (outputs[0] + 2 * outputs[1] + 2 * outputs[2] + outputs[3]) / 6
