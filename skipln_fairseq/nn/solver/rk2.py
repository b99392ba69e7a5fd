"""ODE Transformer's block of second order."""

from typing import List

from torch import Tensor

from ..variant import Paper
from .base import SOLVERS, TOKEN_ANYWHERE, Solver

__all__ = ["RungeKutta2"]


@SOLVERS.declare(
    "rk2",
    title="ODE Transformer, RK2",
    equation="F₁ = E(y), F₂ = E(y + F₁), y' = y + ½(F₁ + F₂), E an encoder block",
    paper=Paper("Li et al. 2022", "2203.09176"),
    goes_with=TOKEN_ANYWHERE,
    example="--skip-type plain --norm-placement pre",
)
class RungeKutta2(Solver):
    """``y' = y + ½ (F_1 + F_2)`` with ``F_1 = E(y)``, ``F_2 = E(y + F_1)``.

    As in the authors' code (``ode_transformer``, ``rk_type`` standard). Their published models are Pre-LN and have DLCL
    beside it (``--depth-mixing dlcl``).
    Source: Li, Du, Zhou, Jing, Zhou, Zeng, Xiao, Zhu, Liu, Zhang, ACL 2022, arXiv:2203.09176.
    """

    steps = (1.0,)

    def forward(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        return y + 0.5 * (outputs[0] + outputs[1])
