"""The leave-step on a CPU: the compiled form, in float32 and bfloat16."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from .. import compiled
from .step import Step

__all__ = ["backward", "fits", "forward"]

SOURCE = Path(__file__).with_name("leave.c")
TYPES = {torch.float32: 0, torch.bfloat16: 1}  # as the source numbers them


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "dim", "norms")),
        *((name, ctypes.c_float) for name in ("scale", "eps", "keep")),
        ("threshold", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
    )


def fits(f: Tensor) -> bool:
    """Whether this form can take such tensors, here."""
    return f.device.type == "cpu" and f.dtype in TYPES and compiled.load(SOURCE) is not None


def _stacked(parameters: list[Tensor], f: Tensor) -> Tensor:
    if not parameters:
        return f.new_empty(0, dtype=torch.float32)
    return torch.stack(parameters).float()


def _call(name: str, f: Tensor, step: Step, weight: Tensor, bias: Tensor, tensors: list[Tensor]) -> None:
    dim = f.size(-1)
    numbers = _Step(
        *(f.numel() // max(dim, 1), dim, weight.size(0), step.scale, step.eps, 1 / (1 - step.drop)),
        *(int(step.drop * 2**32), step.seed, weight.data_ptr(), bias.data_ptr()),
    )
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    function = getattr(compiled.load(SOURCE), name)
    function(ctypes.byref(numbers), TYPES[f.dtype], *pointers, ctypes.c_int64(torch.get_num_threads()))


def forward(f: Tensor, x: Tensor, weights: list[Tensor], biases: list[Tensor], step: Step):
    """``(y, saved)``: the step's output and what :func:`backward` needs besides f and x."""
    y = torch.empty_like(f)
    statistics = f.new_empty(*f.shape[:-1], 2, len(weights), dtype=torch.float32)
    _call("leave_forward", f, step, _stacked(weights, f), _stacked(biases, f), [f, x, y, statistics])
    return y, (statistics,)


def backward(
    grad: Tensor, f: Tensor, x: Tensor, weights: list[Tensor], biases: list[Tensor], step: Step, saved
):
    """The gradients ``(df, dx, [dw], [db])``."""
    (statistics,) = saved
    df, dx = torch.empty_like(f), torch.empty_like(x)
    sums = f.new_empty(torch.get_num_threads(), len(weights), 2, f.size(-1), dtype=torch.float32)
    tensors = [f, x, statistics, grad, df, dx, sums]
    _call("leave_backward", f, step, _stacked(weights, f), _stacked(biases, f), tensors)
    dw = [sums[0, k, 0].to(weight.dtype) for k, weight in enumerate(weights)]
    db = [sums[0, k, 1].to(bias.dtype) for k, bias in enumerate(biases)]
    return df, dx, dw, db
