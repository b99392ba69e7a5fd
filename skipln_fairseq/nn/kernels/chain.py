"""Chains ``y_k = N_k(a_k ⊙ x + b_k ⊙ y_{k−1})``, as skip rules, placements and norms describe them to kernels."""

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from torch import Tensor, nn

__all__ = ["Link", "Norming", "Part", "resolved"]


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
        gate: what a dynamic gain adds to w, (dim,), or none; decoding's kernels alone know it.
        along: the direction whose product with v opens the gate, (dim,), or none.
    """

    parts: int
    eps: float
    weight: Optional[Tensor] = None
    bias: Optional[Tensor] = None
    scale: float = 1.0
    slope: float = 0.0
    gate: Optional[Tensor] = None
    along: Optional[Tensor] = None


class Link(NamedTuple):
    """``y ← N(a ⊙ x + b ⊙ y)``.

    Attributes:
        of_x: a, a number or a tensor of one element or (dim,).
        of_y: b, likewise.
        norm: N, a module that may have a method ``norming() -> Optional[Norming]``, or what that gives; or none.
    """

    of_x: Union[float, Tensor] = 1.0
    of_y: Union[float, Tensor] = 1.0
    norm: Union[nn.Module, Norming, None] = None


def resolved(links: Sequence[Link]) -> Optional[list[Link]]:
    """The chain with what its norms say of themselves in their places; None: kernels do not know all of them."""
    found = []
    for link in links:
        if isinstance(link.norm, nn.Module):
            norming = getattr(link.norm, "norming", None)
            link = link._replace(norm=norming and norming())
            if link.norm is None:
                return None
        found.append(link)
    return found
