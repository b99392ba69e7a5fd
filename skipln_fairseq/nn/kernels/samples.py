"""Some numbers of tensors, to see whether they change."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import compiled

__all__ = ["Samples"]

SIZES = (2, 4, 8)


class _Numbers(ctypes.Structure):
    _fields_ = (("first", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("step", "count", "size")))


class Samples:
    """What numbers are when this is made.

    Far apart in memory, they are read by one loop in C, and by torch's operations where there is no compiler.

    Args:
        views: tensors of one dimension, on the CPU.
    """

    def __init__(self, views: Sequence[Tensor]):
        self._views = list(views)
        self._bytes = self._now()
        self._library = None
        if all(one.element_size() in SIZES and not one.is_complex() for one in views):
            self._library = compiled.load(Path(__file__).with_suffix(".c"))
        self._numbers = (_Numbers * len(self._views))(*map(self._one, self._views))

    @staticmethod
    def _one(view: Tensor) -> _Numbers:
        size = view.element_size()
        return _Numbers(view.data_ptr(), view.stride(0) * size, view.numel(), size)

    def _now(self) -> Tensor:
        return torch.cat([one.contiguous().view(torch.uint8) for one in self._views])

    def same(self) -> bool:
        """Whether they are the same still, as they are in memory: a NaN is itself."""
        if self._library is None:
            return torch.equal(self._bytes, self._now())
        many = ctypes.c_int64(len(self._views))
        return not self._library.numbers_differ(self._numbers, many, ctypes.c_void_p(self._bytes.data_ptr()))
