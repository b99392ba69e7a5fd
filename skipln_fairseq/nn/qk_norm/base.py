"""What every norm of queries, keys and values is. ``QK_NORMS`` is their registry."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Registry, Variant

__all__ = ["QK_NORMS", "HeadNormedLinear", "QKNorm"]

QK_NORMS: Registry["QKNorm"] = Registry("qk_norm", "Norm of queries, keys, values")


class HeadNormedLinear(nn.Linear):
    """A projection to heads, each of which is normalised by the child ``norm``."""

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and knows few types
        heads: int
        norm: nn.Module

    def forward(self, v: Tensor) -> Tensor:
        projected = F.linear(v, self.weight, self.bias)
        return self.norm(projected.unflatten(-1, [self.heads, -1])).flatten(-2)


class QKNorm(Variant):
    """How queries, keys and values are normalised, head by head, after their projections.

    Attention divides the product of q and k by √d_h, the root of a head's dimension, as ever.
    """

    def norms(self, dim: int) -> tuple[nn.Module, ...]:
        """For queries, keys and values, in this order, a module (…, dim) → (…, dim) of one head's features.

        What the tuple is too short for stays as it is.
        """
        return ()

    def apply(self, projections: Sequence[nn.Linear], heads: int) -> None:
        """Let projections to queries, keys and values, in this order, normalise what they project to.

        The modules themselves change their class, so that what is attached to them (quantisation noise) stays, and
        parameters keep their names.
        """
        found = self.norms(projections[0].out_features // heads)
        for linear, norm in zip(projections, found, strict=False):
            linear.__class__ = HeadNormedLinear
            assert isinstance(linear, HeadNormedLinear)
            linear.heads = heads
            linear.norm = norm
