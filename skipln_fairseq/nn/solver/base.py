"""What every solver is: how often a block is applied, and to what. ``SOLVERS`` is their registry.

E is a whole encoder block, its sub-layers with their own skips and norms, so that E(y) holds y. That is how the
published code has it; what Runge and Kutta call F would be E(y) − y.
"""

from typing import Any, List, Optional

from torch import Tensor, nn

from ..mixing.base import Place
from ..skip.base import NONE, TOKEN
from ..variant import Registry, Variant

__all__ = ["SOLVERS", "TOKEN_ANYWHERE", "Solver"]

SOLVERS: Registry["Solver"] = Registry("solver", "Solver: how often a block is applied")

# statistics over a batch would be of several distributions at once, one for each application
TOKEN_ANYWHERE = ((TOKEN, ("post", "pre", "res-post", "sandwich", "sub")), (NONE, ("post",)))


class Solver(Variant, nn.Module):
    """``F_1 = E(y)``, ``F_{k+1} = E(y + s_k F_k)``, and y' made of y and all F_k by :meth:`forward`."""

    steps: tuple[float, ...] = ()
    """s_1, s_2, …: E is applied once more than there are."""

    remembers = False
    """Whether it reads what blocks before it wrote, all of which have to be there."""

    def __init__(self):
        super().__init__()
        self.stages = len(self.steps) + 1
        self.fractions = list(self.steps)  # TorchScript reads attributes of the object

    @classmethod
    def build(cls, place: Place, first: Optional["Solver"], *args: Any, **options: Any) -> "Solver":
        """The solver of one block.

        Args:
            place: of the block.
            first: that of the stack's first block, which may be this one's too; None while that is built.
            options: those that it declares.
        """
        return cls()

    def read(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        """What E is applied to, after F_1, … so far; all (…, dim).

        The memory is that of the stack, empty before its first block; a solver that remembers adds to it.
        """
        return self.stage(y, outputs)

    def stage(self, y: Tensor, outputs: List[Tensor]) -> Tensor:
        """``y`` or ``y + s_k F_k``."""
        if len(outputs) == 0:
            return y
        return y + self.fractions[len(outputs) - 1] * outputs[-1]

    def forward(self, y: Tensor, outputs: List[Tensor], memory: List[Tensor]) -> Tensor:
        """What the block writes, of y and all F_k; all (…, dim)."""
        raise NotImplementedError
