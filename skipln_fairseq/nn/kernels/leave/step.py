"""What a leave-step is told besides its tensors."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..chain import Link, Norming, Part

__all__ = ["Fixed", "Step", "flat", "read"]

ROLES = (Part.OF_X, Part.OF_Y, Part.GAIN, Part.BIAS)


class Fixed(NamedTuple):
    """What is no tensor about one link.

    Attributes:
        parts: the bits of :class:`.Part`.
        places: where among the step's parameters a, b, w and the bias stand; −1: the link has no such tensor.
        of_x: a, where it is no tensor.
        of_y: b, where it is no tensor.
        eps: of the norm.
        scale: C of AdaNorm.
        slope: k of AdaNorm.
    """

    parts: int
    places: tuple[int, ...]
    of_x: float = 1.0
    of_y: float = 1.0
    eps: float = 1e-5
    scale: float = 1.0
    slope: float = 0.0


@dataclass(
    frozen=True, eq=False
)  # :func:`read` makes each once, so that one is told from another by being it
class Step:
    """A leave-step without its tensors.

    Attributes:
        links: one of each k.
        norms: how many of them have a norm.
        drop: the probability with which an element of F(x) is dropped, in [0, 1).
    """

    links: tuple[Fixed, ...]
    norms: int
    drop: float


def flat(links: Sequence[Link], dim: int) -> tuple[list[Tensor], list[int], list[float]]:
    """Links as an operator takes them: the tensors, the bits of each link, and five numbers of each.

    Raises:
        ValueError: for a tensor of another size, or a norm that is not resolved.
    """
    tensors: list[Tensor] = []
    parts: list[int] = []
    numbers: list[float] = []
    for link in links:
        norm = _NONE if link.norm is None else link.norm
        if not isinstance(norm, Norming):
            raise ValueError(f"the leave-step has no form with the norm {norm}")
        bits = norm.parts
        for bit, given in zip(ROLES, (link.of_x, link.of_y, norm.weight, norm.bias), strict=True):
            if isinstance(given, Tensor):
                bits |= bit
                tensors.append(_wide(given, dim))
        parts.append(bits)
        numbers += (_number(link.of_x), _number(link.of_y), norm.eps, norm.scale, norm.slope)
    return tensors, parts, numbers


_NONE = Norming(0, 0.0)


def _number(factor) -> float:
    return 0.0 if isinstance(factor, Tensor) else factor


def _wide(tensor: Tensor, dim: int) -> Tensor:
    if tensor.dim() > 1 or tensor.numel() not in (1, dim):
        raise ValueError(f"a leave-step of {dim} features has no parameter of size {tuple(tensor.shape)}")
    return tensor if tensor.dim() == 1 and tensor.numel() == dim else tensor.expand(dim)


@functools.lru_cache(maxsize=256)
def read(parts: tuple[int, ...], numbers: tuple[float, ...], drop: float) -> Step:
    """The step of what :func:`flat` wrote."""
    links, before = [], 0
    for k, bits in enumerate(parts):
        present = [bool(bits & role) for role in ROLES]
        places = tuple(before + sum(present[:i]) if there else -1 for i, there in enumerate(present))
        before += sum(present)
        links.append(Fixed(bits, places, *numbers[5 * k : 5 * k + 5]))
    return Step(tuple(links), sum(bits & Part.NORM for bits in parts), drop)
