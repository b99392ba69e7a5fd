"""What every value residual is. ``VALUES`` is their registry.

Self-attention sums values, the projections V_l of what block l reads. A value residual mixes them with the values of
blocks before. Of attention to the encoder it is undefined: its values belong to the encoder's positions.
"""

import functools
from types import FunctionType
from typing import List

from torch import Tensor, nn

from ..variant import Registry, Variant

__all__ = ["VALUES", "ValueResidual", "project_before"]

VALUES: Registry["ValueResidual"] = Registry("value", "Value residual: what self-attention sums")


class ValueResidual(Variant, nn.Module):
    """The values of one block's self-attention.

    ``forward(v, memory) -> v'``: v are the block's own values, and v' what is summed, both (…, dim). The memory, which
    is empty before the first block, holds what later blocks need of these positions. In incremental decoding these are
    the positions of one step, so that nothing is kept between steps but v', as keys and values always are.
    """

    @classmethod
    def build(cls, layer: int) -> "ValueResidual":
        """That of one block, by its number in its stack, from 0."""
        return cls() if layer else FirstValues()

    def forward(self, v: Tensor, memory: List[Tensor]) -> Tensor:
        raise NotImplementedError


class FirstValues(ValueResidual):
    """The first block's: its values are V_1, and stay as they are."""

    def forward(self, v: Tensor, memory: List[Tensor]) -> Tensor:
        memory.append(v)
        return v


def project_before(projection: nn.Module) -> None:
    """Let a projection be applied before the attention that it belongs to: ``project`` applies it, a call does nothing.

    The module itself changes its class, so that parameters keep their names. Attention calls it as ever, with what
    ``project`` made.
    """
    # mypy takes the hash of a class for that of its instances
    projection.__class__ = _projecting_before(type(projection))  # type: ignore[arg-type]


@functools.cache
def _projecting_before(kind: type[nn.Module]) -> type[nn.Module]:
    applied = kind.forward
    # TorchScript compiles a method under the name that the function has
    project = FunctionType(applied.__code__, applied.__globals__, "project", closure=applied.__closure__)

    def forward(self, v: Tensor) -> Tensor:
        return v

    return type(f"{kind.__name__}Before", (kind,), {"project": project, "forward": forward})
