"""Chains ``y_k = N_k(a_k ⊙ x + b_k ⊙ y_{k−1})``, as skip rules, placements and norms describe them to kernels."""

from collections.abc import Sequence
from typing import NamedTuple, Optional, Protocol, Union

from torch import Tensor

__all__ = ["Link", "Normed", "Norming", "Part", "resolved"]


class Part:
    """What is part of a link: bits, which the kernels' sources number alike.

    A norm is ``n = (v − μ)/σ`` and what is made of n; μ and σ are constants in the backward where they do not learn.
    """

    NORM = 1
    """v is divided by its deviation."""
    CENTRED = 2
    """The mean is taken away first; else σ² is the mean square."""
    MEAN = 4
    """The mean carries a gradient."""
    DEVIATION = 8
    """The deviation carries a gradient."""
    BRACKET = 16
    """AdaNorm's factor ``C(1 − kn)``, a constant in the backward."""
    GAIN = 32
    """A tensor is multiplied with n."""
    BIAS = 64
    """A tensor is added at the end."""
    OF_X = 128
    """a is a tensor."""
    OF_Y = 256
    """b is a tensor."""

    LAYER = NORM | CENTRED | MEAN | DEVIATION
    RMS = NORM | DEVIATION


class Norming(NamedTuple):
    """A norm over the features of one token, as kernels know it: ``w ⊙ n + b`` or ``C(1 − kn) ⊙ n``.

    Attributes:
        parts: the bits of :class:`Part` that make it, without GAIN and BIAS.
        eps: under the root.
        weight: w, (dim,), or none.
        bias: b, (dim,), or none.
        scale: C.
        slope: k.
    """

    parts: int
    eps: float
    weight: Optional[Tensor] = None
    bias: Optional[Tensor] = None
    scale: float = 1.0
    slope: float = 0.0


class Normed(Protocol):
    """A module that may be a norm which kernels know."""

    def norming(self) -> Optional[Norming]:
        """The norm, with the parameters that the module has now; None: kernels do not know it."""


class Link(NamedTuple):
    """``y ← N(a ⊙ x + b ⊙ y)``.

    Attributes:
        of_x: a, a number or a tensor of one element or (dim,).
        of_y: b, likewise.
        norm: N, or none.
    """

    of_x: Union[float, Tensor] = 1.0
    of_y: Union[float, Tensor] = 1.0
    norm: Union[Normed, Norming, None] = None


def resolved(links: Sequence[Link]) -> Optional[list[Link]]:
    """The chain with what its norms say of themselves in their places; None: kernels do not know all of them."""
    found = []
    for link in links:
        norm = link.norm
        if norm is not None and not isinstance(norm, Norming):
            norm = norm.norming() if hasattr(norm, "norming") else None
            if norm is None:
                return None
        found.append(link._replace(norm=norm))
    return found
