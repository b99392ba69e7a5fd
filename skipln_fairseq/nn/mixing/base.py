"""What every mixing is, and what it is told when it is built. ``MIXINGS`` is their registry.

A mixing decides what a block (or each sub-layer) of a stack reads: something made of the outputs before it and of
the embedding. These are the stack's *memory*, a list of tensors (…, dim).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, List, Optional

from torch import Tensor, nn

from ..skip.base import Skip
from ..variant import Registry, Variant

__all__ = ["MIXINGS", "Mixing", "Passing", "Place", "Remembering", "weighted_sum"]

MIXINGS: Registry["Mixing"] = Registry("mixing", "Between blocks: what a block reads")


@dataclass(frozen=True)
class Place:
    """Before which sub-layer of a stack a mixing stands.

    Attributes:
        dim: the feature dimension.
        make_norm: makes a norm of the kind that stands at the stack's end.
        side: encoder or decoder.
        layer: of the sub-layer's block in its side, from 0; at the stack's end the number of its blocks.
        index: of the sub-layer in its block, from 0; 0 at the end.
        slots: how many sub-layers a block has.
        normed: whether what a block writes is the output of a norm already (Post-LN), and not a plain sum.
    """

    dim: int
    make_norm: Callable[[int], nn.Module]
    side: str = "encoder"
    layer: int = 0
    index: int = 0
    slots: int = 2
    normed: bool = True

    @property
    def number(self) -> int:
        """How many sub-layers of the stack stand before it."""
        return self.layer * self.slots + self.index


class Mixing(Variant, nn.Module):
    """What stands before one sub-layer, and at the end of a stack before its norm.

    ``forward(y, memory) -> x``: y is what the sub-layer before wrote, of the first one the embedding, and x what is
    read next, all (…, dim). It adds to the memory what later ones need, which is empty before the first.
    """

    skip: Optional[type[Skip]] = None
    """The skip rule of the sub-layers, where the mixing stands in its place; else the chosen one remains."""

    needs_one_kind = False
    """Whether all blocks of a stack have to write plain sums, or all of them outputs of a norm."""

    @classmethod
    def build(cls, place: Place, *args: Any, **options: Any) -> "Mixing":
        """The mixing of one place; ``options`` are those that it declares."""
        raise NotImplementedError

    def forward(self, y: Tensor, memory: List[Tensor]) -> Tensor:
        raise NotImplementedError


class Passing(Mixing):
    """Reads what was written last, and remembers nothing."""

    def forward(self, y: Tensor, memory: List[Tensor]) -> Tensor:
        return y


class Remembering(Mixing):
    """Reads what was written last, and remembers it."""

    def forward(self, y: Tensor, memory: List[Tensor]) -> Tensor:
        memory.append(y)
        return y


def weighted_sum(values: List[Tensor], weights: Tensor) -> Tensor:
    """``Σ_i weights[i] ⊙ values[i]``; the values are never copied into one tensor.

    Args:
        values: n tensors (…, dim).
        weights: (n, …), each broadcasts to its value.
    """
    weights = weights.to(values[0].dtype)
    total = weights[0] * values[0]
    for i in range(1, len(values)):
        total = total + weights[i] * values[i]
    return total
