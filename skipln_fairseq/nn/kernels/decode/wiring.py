"""How a sub-layer is connected, as the kernels are told."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .library import pointer

__all__ = ["ConnectionStruct", "Wiring"]


class ConnectionStruct(ctypes.Structure):
    """As the source's ``Connection``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("norms", "before")),
        *((name, ctypes.c_float) for name in ("skip", "eps")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
    )


@dataclass(frozen=True)
class Wiring:
    """How a sub-layer F is connected: skip · x + F(x), then the norms; or one norm before F.

    Attributes:
        norms: LayerNorms in their order.
        before: whether the norm stands before F.
        skip: the factor of x.
    """

    norms: Sequence[nn.LayerNorm] = ()
    before: bool = False
    skip: float = 1.0

    def struct(self, kept: list[Any]) -> ConnectionStruct:
        """For the kernels; what its addresses are of is added to ``kept``."""
        if not self.norms:
            return ConnectionStruct(0, 0, self.skip, 0.0, None, None)
        weight, bias = (
            torch.stack([getattr(norm, name) for norm in self.norms]) for name in ("weight", "bias")
        )
        kept += [weight, bias]
        eps = self.norms[0].eps
        return ConnectionStruct(len(self.norms), self.before, self.skip, eps, *map(pointer, (weight, bias)))
