"""Whether a module is still what something was made of."""

import math
import time
from collections.abc import Iterator
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from ..nn.kernels.samples import Samples

__all__ = ["Snapshot"]

BREAK = 400
"""All values are read once more after so many times the time that it takes."""

HOOKS_OF_ALL = (every_module._global_forward_hooks, every_module._global_forward_pre_hooks)


def _dictionaries(module: nn.Module) -> Iterator[tuple[dict[Any, Any], list[Any]]]:
    """Everything that hangs on a module or below it, and the hooks of every module there is; with the keys to look at.

    A module's private attributes are its own caches (``_future_mask``), but for torch's dictionaries of parameters,
    modules and hooks.
    """
    yield from ((hooks, list(hooks)) for hooks in HOOKS_OF_ALL)
    for one in module.modules():
        yield vars(one), [name for name in vars(one) if not name.startswith("_")]
        yield from ((each, list(each)) for each in vars(one).values() if isinstance(each, dict))


_version = attrgetter("_version")


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
        self._modules = list(module.modules())
        self._classes = list(map(type, self._modules))
        found = list(_dictionaries(module))
        self._dictionaries = [held for held, _ in found]
        self._sizes = list(map(len, self._dictionaries))
        entries = [(held, name, held[name]) for held, names in found for name in names]
        # what is held stays, so that nothing new can stand in its place in memory
        self._holders, self._names, self._values = map(list, zip(*entries, strict=True))
        tensors = {
            id(one): one for one in self._values if isinstance(one, Tensor) and one.is_floating_point()
        }
        self._tensors = [one for one in tensors.values() if one.numel()]
        self._counted = [
            one for one in self._tensors if not one.is_inference()
        ]  # whose versions torch counts
        self._places, self._versions = self._where(), list(map(_version, self._counted))
        self._samples = Samples(list(map(_some, self._tensors)))
        self._sums = self._read()

    def _where(self) -> list[int]:
        return list(map(Tensor.data_ptr, self._tensors))

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
            self._sizes == list(map(len, self._dictionaries))
            and all(map(is_, map(dict.get, self._holders, self._names), self._values))
            and self._classes == list(map(type, self._modules))
            and self._places == self._where()
            and self._versions == list(map(_version, self._counted))
            and self._samples.same()
            and (time.perf_counter() < self._next or _same(self._sums, self._read()))
        )
