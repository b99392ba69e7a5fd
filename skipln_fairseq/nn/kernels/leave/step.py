"""What a leave-step is told besides its tensors."""

from dataclasses import dataclass

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """The numbers of one leave-step.

    Attributes:
        scale: λ, the factor of x.
        drop: the probability with which an element of F(x) is dropped, in [0, 1).
        eps: of the norms.
        seed: of the dropout, below 2⁶³; unused where nothing is dropped.
    """

    scale: float = 1.0
    drop: float = 0.0
    eps: float = 1e-5
    seed: int = 0
