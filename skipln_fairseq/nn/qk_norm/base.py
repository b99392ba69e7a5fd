"""What every norm of queries and keys is. ``QK_NORMS`` is their registry."""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Registry, Variant

__all__ = ["QK_NORMS", "HeadNormedLinear", "QKNorm"]

QK_NORMS: Registry["QKNorm"] = Registry("qk_norm", "Norm of queries and keys")


class HeadNormedLinear(nn.Linear):
    """A projection to heads, each of which is normalised by the child ``norm``."""

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and knows few types
        heads: int
        norm: nn.Module

    def forward(self, v: Tensor) -> Tensor:
        projected = F.linear(v, self.weight, self.bias)
        return self.norm(projected.unflatten(-1, [self.heads, -1])).flatten(-2)


class QKNorm(Variant):
    """How queries and keys are normalised, head by head, between their projections and their product.

    Attention divides the product of q and k by √d_h, the root of a head's dimension, as ever.
    """

    def norms(self, dim: int) -> tuple[nn.Module, nn.Module] | None:
        """For queries and for keys a module (…, dim) → (…, dim) of one head's features; None: they stay."""
        return None

    def apply(self, query: nn.Linear, key: nn.Linear, heads: int) -> None:
        """Let two projections normalise what they project to.

        The modules themselves change their class, so that what is attached to them (quantisation noise) stays, and
        parameters keep their names.
        """
        found = self.norms(query.out_features // heads)
        for linear, norm in zip((query, key), found or (), strict=False):
            linear.__class__ = HeadNormedLinear
            assert isinstance(linear, HeadNormedLinear)
            linear.heads = heads
            linear.norm = norm
