"""Blocks as TorchScript wants them: it knows no ``*args``, so each number of F's arguments has a class.

Their ``forward`` is narrower than the one of a block, which is what they are for.
"""

import inspect
from typing import Any, Optional

from torch import Tensor

from .residual import Residual

__all__ = ["scriptable"]


class _OfX(Residual):
    """F reads x alone."""

    def forward(self, x: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:  # type: ignore[override]
        f_x = self.function(self.connection.enter(x, padding_mask))
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())


class _OfOneMore(Residual):
    """F reads x and one more tensor."""

    def forward(self, x: Tensor, a: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:  # type: ignore[override]
        f_x = self.function(self.connection.enter(x, padding_mask), a)
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())


class _OfTwoMore(Residual):
    """F reads x and two more tensors."""

    def forward(self, x: Tensor, a: Tensor, b: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:  # type: ignore[override]
        f_x = self.function(self.connection.enter(x, padding_mask), a, b)
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())


CLASSES = (_OfX, _OfOneMore, _OfTwoMore)


def scriptable(block: Residual) -> Residual:
    """The block with a forward of F's own number of arguments; it shares all that the block holds.

    Raises:
        TypeError: where F needs more arguments than there are classes for.
    """
    more = _needed(block.function) - 1
    if more >= len(CLASSES):
        raise TypeError(
            f"TorchScript of a block: valid is an F of at most {len(CLASSES)} tensors, not of {more + 1}"
        )
    twin = CLASSES[more].__new__(CLASSES[more])
    twin.__dict__ = dict(block.__dict__)
    return twin


def _needed(function: Any) -> int:
    """How many arguments a call of F has to give."""
    parameters = inspect.signature(getattr(function, "forward", function)).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters)
