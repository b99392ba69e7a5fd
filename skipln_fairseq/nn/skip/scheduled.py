"""Skips whose branch comes in over the first updates, which BranchNorm and ProRes are."""

from typing import Optional

import torch
from torch import Tensor

from .base import Coefficients, Link, Skip

__all__ = ["ScheduledBranch"]


class ScheduledBranch(Skip):
    """``x + α F(x)`` with ``α = min(t/steps, 1)``, t the updates made before this one, so 0 in the first.

    t is a buffer, so a checkpoint holds it: a resumed run goes on, and a translation has the α of its checkpoint. The
    trainer sets it before every update; without one it stays as it was made or loaded. α is worked out in double
    precision.

    Args:
        steps: after how many updates α is 1.
    """

    is_a_mean = False
    updates: Tensor

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.jit.unused
    def set_num_updates(self, updates: int) -> None:
        """What fairseq's trainer says of the updates made."""
        self.updates.fill_(updates)

    def alpha(self) -> Tensor:
        """α, now."""
        return (self.updates.double() / self.steps).clamp(max=1.0)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + self.alpha().to(f_x.dtype) * f_x

    def chain(self) -> list[Link]:
        return [Link(of_y=self.alpha().float())]

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return x.new_ones(()), self.alpha().to(x.dtype)
