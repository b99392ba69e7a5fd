"""Whether a module is still what something was made of."""

from collections.abc import Iterator
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

__all__ = ["Snapshot"]


def _flat(held: dict[Any, Any]) -> Iterator[Any]:
    """What a dictionary holds, and what the dictionaries in it hold: parameters, modules, hooks."""
    for value in held.values():
        if isinstance(value, dict):
            yield from value
            yield from value.values()
        else:
            yield value


def _pieces(module: nn.Module) -> list[Any]:
    """Everything that hangs on a module or below it, and the hooks of every module there is."""
    found = [*every_module._global_forward_hooks.values(), *every_module._global_forward_pre_hooks.values()]
    for one in module.modules():
        found += (one, type(one), *_flat(one.__dict__))
    return found


def _form(tensor: Tensor) -> tuple[Any, ...]:
    version = None if tensor.is_inference() else tensor._version  # which inference tensors do not count
    return tensor.dtype, tensor.device, tensor.shape, version


def _sums(tensor: Tensor) -> Tensor:
    """A weighted sum of each row: what is written past torch's count of versions, as through ``.data``, changes it."""
    rows = tensor.detach().reshape(-1, tensor.size(-1) if tensor.dim() else 1)
    # no two weights are alike, so rows whose elements change places have other sums
    weights = torch.linspace(1, 2, rows.size(1), dtype=rows.dtype, device=rows.device)
    return rows.mv(weights)


def _same(a: Tensor, b: Tensor) -> bool:
    # as they are in memory: a NaN is itself
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))


class Snapshot:
    """What a module is now: its submodules, parameters and other attributes, its hooks, and its parameters' values.

    Attributes are compared by identity, and what is compared is held, so that nothing new can stand in its place in
    memory. Values are compared by the parameters' versions and by a sum of each row, which takes as long as reading
    them once.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self._pieces = _pieces(module)
        self._parameters = list(module.parameters())
        self._forms = [_form(one) for one in self._parameters]
        with torch.no_grad():
            self._sums = [_sums(one) for one in self._parameters]

    def holds(self) -> bool:
        """Whether the module is still that."""
        pieces = _pieces(self.module)
        if len(pieces) != len(self._pieces) or not all(map(is_, pieces, self._pieces)):
            return False
        if self._forms != [_form(one) for one in self._parameters]:
            return False
        with torch.no_grad():
            return all(
                _same(_sums(one), before) for one, before in zip(self._parameters, self._sums, strict=True)
            )
