"""How a sub-layer is connected, as the kernels are told."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..chain import Link, Norming, Part
from .library import pointer

__all__ = ["ConnectionStruct", "NormStruct", "Shape", "Wiring", "norm_struct"]

NONE = Norming(0, 0.0)


class Shape:
    """Norms that training's kernels do not know: bits of :attr:`.Norming.parts`, beside those of :class:`.Part`."""

    LENGTH = 1 << 16
    """n = v / max(‖v‖, eps)."""
    TANH = 1 << 17
    """tanh(scale · n + slope), n = v without a norm before it."""
    ERF = 1 << 18
    """erf(scale · n + slope), likewise."""
    GATED = 1 << 19
    """The weight is ``weight + tanh(v·along) gate``."""


KNOWN = Part.NORM | Part.CENTRED | Part.BRACKET | Shape.LENGTH | Shape.TANH | Shape.ERF | Shape.GATED


class NormStruct(ctypes.Structure):
    """As the source's ``Norm``."""

    _fields_ = (
        ("parts", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("eps", "scale", "slope")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "gate", "along")),
    )


class _Link(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_float) for name in ("a", "b")),
        *((name, ctypes.c_void_p) for name in ("of_x", "of_y")),
        ("norm", NormStruct),
    )


class ConnectionStruct(ctypes.Structure):
    """As the source's ``Connection``."""

    _fields_ = (
        *((name, NormStruct) for name in ("before", "inside")),
        ("links", ctypes.c_int64),
        ("link", ctypes.c_void_p),
    )


def _wide(given: Tensor, dim: int, kept: list[Any]) -> ctypes.c_void_p:
    """One number or (dim,) as (dim,), which is kept."""
    kept.append(given.detach().float().reshape(-1).expand(dim).contiguous())
    return pointer(kept[-1])


def norm_struct(norm: Norming | None, dim: int, kept: list[Any]) -> NormStruct:
    """A norm of dim features for the kernels; what its addresses are of is added to ``kept``."""
    norm = norm or NONE
    of_features = (norm.weight, norm.bias, norm.gate, norm.along)
    vectors = (None if one is None else _wide(one, dim, kept) for one in of_features)
    # what learns is nothing to inference
    return NormStruct(norm.parts & KNOWN, norm.eps, norm.scale, norm.slope, *vectors)


@dataclass(frozen=True)
class Wiring:
    """How a sub-layer F is connected.

    Attributes:
        links: from F(x) to the sub-layer's output; their norms are resolved.
        before: the norm of what F is given.
        inside: the norm of what F's last map is given.
    """

    links: Sequence[Link] = (Link(),)
    before: Norming | None = None
    inside: Norming | None = None

    def struct(self, dim: int, inner: int, kept: list[Any]) -> ConnectionStruct:
        """For the kernels; what its addresses are of is added to ``kept``.

        Args:
            dim: of x.
            inner: the inputs of F's last map.
            kept: what must not be freed.
        """
        links = (_Link * len(self.links))(*(self._link(one, dim, kept) for one in self.links))
        kept.append(links)
        before, inside = norm_struct(self.before, dim, kept), norm_struct(self.inside, inner, kept)
        return ConnectionStruct(before, inside, len(links), ctypes.addressof(links))

    @staticmethod
    def _link(link: Link, dim: int, kept: list[Any]) -> _Link:
        assert not isinstance(link.norm, nn.Module), "norms of links are resolved"
        factors = (link.of_x, link.of_y)
        vectors = [_wide(one, dim, kept) if isinstance(one, torch.Tensor) else None for one in factors]
        numbers = (0.0 if isinstance(one, torch.Tensor) else one for one in factors)
        return _Link(*numbers, *vectors, norm_struct(link.norm, dim, kept))
