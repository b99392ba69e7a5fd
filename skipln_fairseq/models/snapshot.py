"""Whether a module is still what something was made of."""

import math
import time
from collections.abc import Iterator
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

__all__ = ["Snapshot"]

BREAK = 50
"""All values are read once more after so many times the time that it takes: a fiftieth of the time at most."""

HOOKS_OF_ALL = (every_module._global_forward_hooks, every_module._global_forward_pre_hooks)


class _Held:
    """What a dictionary holds, by identity; what is held stays, so that nothing new can stand in its place in memory.

    Of a module's attributes, private ones are its own caches (``_future_mask``), but for torch's dictionaries of
    parameters, modules and hooks.
    """

    def __init__(self, held: dict[Any, Any], private: bool):
        self.held, self.size = held, len(held)
        names = [name for name in held if private or not name.startswith("_") or isinstance(held[name], dict)]
        self.names, self.values = names, [held[name] for name in names]

    def holds(self) -> bool:
        """Whether it still does."""
        return len(self.held) == self.size and all(map(is_, map(self.held.get, self.names), self.values))


def _dictionaries(module: nn.Module) -> Iterator[_Held]:
    """Everything that hangs on a module or below it, and the hooks of every module there is."""
    yield from (_Held(hooks, private=True) for hooks in HOOKS_OF_ALL)
    for one in module.modules():
        yield _Held(vars(one), private=False)
        yield from (_Held(each, private=True) for each in vars(one).values() if isinstance(each, dict))


def _place(tensor: Tensor) -> tuple[Any, ...]:
    version = None if tensor.is_inference() else tensor._version  # which inference tensors do not count
    return tensor.data_ptr(), version


def _stride(rows: int, columns: int) -> int:
    """Of elements in memory, so that each row and each column has one of them."""
    return next(one for one in range(min(rows, columns), 0, -1) if math.gcd(one, columns) == 1)


def _some(tensor: Tensor) -> Tensor:
    """At least one element of each row and column, as they are in the tensor's memory."""
    columns = tensor.size(-1) if tensor.dim() else 1
    flat = tensor.detach().reshape(-1)
    return flat[:: _stride(len(flat) // columns, columns)]


def _sums(tensor: Tensor) -> Tensor:
    """A weighted sum of each row."""
    rows = tensor.detach().reshape(-1, tensor.size(-1) if tensor.dim() else 1)
    # no two weights are alike, so rows whose elements change places have other sums
    return rows.mv(torch.linspace(1, 2, rows.size(1), dtype=rows.dtype))


def _same(a: Tensor, b: Tensor) -> bool:
    # as they are in memory: a NaN is itself
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))


class Snapshot:
    """What a module is now: its submodules, parameters, hooks and other attributes, and its parameters' values.

    Attributes are compared by identity, values by torch's count of versions. What is written past that count, as
    through ``.data`` or NumPy, is seen at once if it changes the whole of a row or column or more of a parameter, and
    else with the next reading of all values, which is ``BREAK`` times as long after the last one as it takes.

    Args:
        module: with floating-point parameters in memory of the CPU.
    """

    def __init__(self, module: nn.Module):
        self._classes = [(one, type(one)) for one in module.modules()]
        self._dictionaries = list(_dictionaries(module))
        values = (value for each in self._dictionaries for value in each.values)
        found = {id(one): one for one in values if isinstance(one, Tensor) and one.is_floating_point()}
        self._tensors = [one for one in found.values() if one.numel()]
        self._places = list(map(_place, self._tensors))
        self._views = list(map(_some, self._tensors))
        self._samples = torch.cat(self._views)
        self._sums = self._read()

    def _read(self) -> Tensor:
        """All values; and say when they are to be read again."""
        start = time.perf_counter()
        with torch.no_grad():
            found = torch.cat(list(map(_sums, self._tensors)))
        end = time.perf_counter()
        self._next = end + BREAK * (end - start)
        return found

    def holds(self) -> bool:
        """Whether the module is still that."""
        return (
            all(type(one) is kind for one, kind in self._classes)
            and all(each.holds() for each in self._dictionaries)
            and self._places == list(map(_place, self._tensors))
            and _same(self._samples, torch.cat(self._views))
            and (time.perf_counter() < self._next or _same(self._sums, self._read()))
        )
