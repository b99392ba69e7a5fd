"""Blocks as TorchScript wants them: it knows no ``*args``, so each number of F's arguments has a class.

Their ``forward`` is narrower than the one of a block, which is what they are for. Called without TorchScript they are
the block, for torch leaves them in the model that it was given.
"""

import inspect
from typing import Any, Optional

from torch import Tensor

from .residual import Residual

__all__ = ["scriptable"]


def _empty() -> Residual:
    return Residual.__new__(Residual)


class _Twin(Residual):
    """Another forward for all that a block holds; what happens to one happens to the other."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._block()(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (), self.__dict__

    def _block(self) -> Residual:
        block = _empty()
        block.__dict__ = self.__dict__
        return block


class _OfX(_Twin):
    """F reads x alone."""

    def forward(self, x: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:  # type: ignore[override]
        f_x = self.function(self.connection.enter(x, padding_mask))
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())


class _OfOneMore(_Twin):
    """F reads x and one more tensor."""

    def forward(self, x: Tensor, a: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:  # type: ignore[override]
        f_x = self.function(self.connection.enter(x, padding_mask), a)
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())


class _OfTwoMore(_Twin):
    """F reads x and two more tensors."""

    def forward(self, x: Tensor, a: Tensor, b: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:  # type: ignore[override]
        f_x = self.function(self.connection.enter(x, padding_mask), a, b)
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())


CLASSES = (_OfX, _OfOneMore, _OfTwoMore)


def scriptable(block: Residual) -> Residual:
    """The block with a forward of F's own number of arguments; it shares all that the block holds.

    A block whose class has a forward of its own is what it is.

    Raises:
        TypeError: where F needs more arguments than there are classes for, or has one that need not be given: the
            block's mask would take its place.
    """
    if type(block).forward is not Residual.forward:
        return block
    needed, optional = _positional(block.function)
    if optional:
        raise TypeError(
            f"TorchScript of a block: F need not be given {', '.join(optional)}: valid is an F whose tensors are all "
            "given"
        )
    more = len(needed) - 1
    if more >= len(CLASSES):
        raise TypeError(
            f"TorchScript of a block: valid is an F of at most {len(CLASSES)} tensors, not of {more + 1}"
        )
    twin = CLASSES[more].__new__(CLASSES[more])
    twin.__dict__ = block.__dict__
    return twin


def _positional(function: Any) -> tuple[list[str], list[str]]:
    """F's arguments that are not keywords: those that a call has to give, and the others."""
    parameters = inspect.signature(getattr(function, "forward", function)).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [one for one in parameters if one.kind in kinds]
    needed = [one.name for one in found if one.default is inspect.Parameter.empty]
    return needed, [one.name for one in found if one.default is not inspect.Parameter.empty]
