"""What a fake tensor's operations would make the host wait for on a GPU, and types that no GPU should be given."""

import sys
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skipln_fairseq.nn.kernels.operators import NAMESPACE

__all__ = ["Watch"]

aten = torch.ops.aten
READS = (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default)
"""What hands numbers of a tensor to the host."""
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
"""What does so too where an index is a mask."""
PACKAGES = ("skipln_fairseq", "fairseq")


def _where() -> str:
    """File and line of the innermost caller in fairseq or in this package."""
    frame = sys._getframe(1)
    while frame is not None:
        parts = Path(frame.f_code.co_filename).parts
        for package in PACKAGES:
            if package in parts[:-1]:
                return f"{'/'.join(parts[parts.index(package) :])}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _is_on_gpu(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cuda"


def _read(operation, tensor: Tensor) -> Tensor | bool | float | int:
    """What an operation of :data:`READS` makes of a tensor without numbers.

    A tensor on the CPU that was made of a number has that one. All others are made up: 1, no two that are compared by
    == are equal, all other conditions hold, and ``nonzero`` finds all.
    """
    if operation is aten.nonzero.default:
        return tensor.new_empty(tensor.numel(), tensor.dim(), dtype=torch.long)
    if getattr(tensor, "constant", None) is not None:
        return tensor.constant.item()
    if tensor.dtype == torch.bool or operation is aten.equal.default:
        return not getattr(tensor, "is_comparison", False)
    return 1.0 if tensor.is_floating_point() else 1


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _numbers(index: Tensor | None) -> list[Tensor | None]:
    """An index; of a mask, which is found to be true everywhere, the numbers that it stands for."""
    if not _is_mask(index):
        return [index]
    return [index.new_zeros(index.numel(), dtype=torch.long) for _ in range(index.dim())]


class Watch(TorchDispatchMode):
    """To be entered inside of a ``FakeTensorMode``. Operations are counted by name, file and line.

    Attributes:
        waits: those that would make the host wait for the GPU.
        copies: those that would copy numbers from the host's memory to the GPU.
        doubles: those that would compute in float64 on the GPU.
        kernels: calls of this package's kernels, by name.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.copies, self.doubles, self.kernels = Counter(), Counter(), Counter(), Counter()

    def clear(self) -> None:
        """Count from zero."""
        for counted in (self.waits, self.copies, self.doubles, self.kernels):
            counted.clear()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation in READS:
            self._count(self.waits, operation, _is_on_gpu(args[0]))
            return _read(operation, args[0])
        if operation in INDEXING:
            indices = [number for index in args[1] for number in _numbers(index)]
            self._count(self.waits, operation, _is_on_gpu(args[0]) and any(map(_is_mask, args[1])))
            args = (args[0], indices, *args[2:])
        if torch.device(kwargs.get("device") or "cpu").type == "cuda" and isinstance(args[0], FakeTensor):
            args[0].constant = None  # or the number that it was made of would really be moved
        found = operation(*args, **kwargs)
        if operation.overloadpacket in (aten.eq, aten.ne):
            found.is_comparison = True
        self._note(operation, [*tree_leaves(args), *tree_leaves(kwargs)], found)
        return found

    def _count(self, counted: Counter, operation, happens: bool) -> None:
        if happens:
            counted[f"{operation} at {_where()}"] += 1

    def _note(self, operation, given: list, found) -> None:
        results = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
        if operation in (aten._to_copy.default, aten.copy_.default):
            source = [one for one in given if isinstance(one, Tensor)][-1]
            here, there = _is_on_gpu(source), _is_on_gpu(results[0])
            self._count(self.waits, operation, here and not there)
            self._count(self.copies, operation, there and not here)
        wide = any(_is_on_gpu(one) and one.dtype == torch.float64 and one.dim() for one in results)
        self._count(self.doubles, operation, wide)
        if operation.namespace == NAMESPACE:
            self.kernels[operation.name()] += 1
