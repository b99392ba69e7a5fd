"""The cross-entropies on a CPU: the compiled form, in float32 and bfloat16."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from .. import compiled
from ..types import TYPES

__all__ = ["backward_", "fits", "forward"]

SOURCE = Path(__file__).with_name("cross_entropy.c")


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "words", "ignored")),
        ("type", ctypes.c_int32),
        ("target", ctypes.c_void_p),
    )


def fits(logits: Tensor) -> bool:
    """Whether this form can take such tensors, here."""
    known = logits.device.type == "cpu" and logits.dtype in TYPES and logits.is_contiguous()
    return known and compiled.load(SOURCE) is not None


def _call(name: str, logits: Tensor, target: Tensor, ignored: int, *rows: Tensor) -> None:
    target = target.contiguous()
    function = getattr(compiled.load(SOURCE), name)
    function.restype = ctypes.c_int64
    numbers = _Rows(*logits.shape, ignored, TYPES[logits.dtype], target.data_ptr())
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (logits, *rows)]
    wrong = function(ctypes.byref(numbers), *pointers, ctypes.c_int64(torch.get_num_threads()))
    if wrong >= 0:
        raise IndexError(f"target {int(target[wrong])} is out of range for {logits.size(1)} words")


def forward(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
    """nll, all and log Σ exp of the logits.

    Raises:
        IndexError: a target is no word.
    """
    nll, every, log_sum = (logits.new_empty(len(logits), dtype=torch.float32) for _ in range(3))
    _call("cross_entropies_forward", logits, target, ignored, nll, every, log_sum)
    return nll, every, log_sum


def backward_(
    logits: Tensor, target: Tensor, ignored: int, log_sum: Tensor, grad_nll: Tensor, grad_every: Tensor
) -> None:
    """Write the gradient over the logits."""
    rows = [row.float().contiguous() for row in (log_sum, grad_nll, grad_every)]
    _call("cross_entropies_backward", logits, target, ignored, *rows)
