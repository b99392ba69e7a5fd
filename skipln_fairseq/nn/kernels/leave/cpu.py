"""The leave-step on a CPU: the compiled form, in float32 and bfloat16."""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from .. import compiled
from ..types import TYPES
from .step import Step

__all__ = ["backward", "fits", "forward"]

SOURCE = Path(__file__).with_name("leave.c")


class _Link(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("parts", "of_x_at", "of_y_at", "gain_at", "bias_at")),
        *((name, ctypes.c_float) for name in ("of_x", "of_y", "eps", "scale", "slope")),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "dim", "links", "norms", "parameters")),
        ("keep", ctypes.c_float),
        ("threshold", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("link", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
    )


def fits(f: Tensor) -> bool:
    """Whether this form can take such tensors, here."""
    return f.device.type == "cpu" and f.dtype in TYPES and compiled.load(SOURCE) is not None


@functools.lru_cache(maxsize=256)
def _links(step: Step) -> ctypes.Array:
    return (_Link * len(step.links))(*(_Link(one.parts, *one.places, *one[2:]) for one in step.links))


def _call(
    name: str, f: Tensor, parameters: list[Tensor], step: Step, seed: int, threads: int, tensors: list[Tensor]
) -> None:
    dim, links = f.size(-1), _links(step)
    table = torch.stack(parameters).float() if parameters else f.new_empty(0, dtype=torch.float32)
    numbers = _Step(
        *(f.numel() // max(dim, 1), dim, len(links), step.norms, len(parameters), 1 / (1 - step.drop)),
        *(int(step.drop * 2**32), seed, ctypes.addressof(links), table.data_ptr()),
    )
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    function = getattr(compiled.load(SOURCE), name)
    function(ctypes.byref(numbers), TYPES[f.dtype], *pointers, ctypes.c_int64(threads))


def forward(f: Tensor, x: Tensor, parameters: list[Tensor], step: Step, seed: int) -> tuple[Tensor, Tensor]:
    """The step's output, and of each norm the mean and inverse deviation, (…, norms, 2)."""
    y = torch.empty_like(f)
    statistics = f.new_empty(*f.shape[:-1], step.norms, 2, dtype=torch.float32)
    tensors = [f, x, y, statistics]
    _call("leave_forward", f, parameters, step, seed, torch.get_num_threads(), tensors)
    return y, statistics


def backward(
    grad: Tensor, f: Tensor, x: Tensor, parameters: list[Tensor], statistics: Tensor, step: Step, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of f, of x and, (parameters, dim), of the parameters."""
    df, dx, threads = torch.empty_like(f), torch.empty_like(x), torch.get_num_threads()
    sums = f.new_empty(threads, len(parameters), f.size(-1), dtype=torch.float32)
    tensors = [f, x, statistics, grad, df, dx, sums]
    _call("leave_backward", f, parameters, step, seed, threads, tensors)
    return df, dx, sums[0]
