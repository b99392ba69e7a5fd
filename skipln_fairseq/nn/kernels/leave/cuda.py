"""The leave-step on a GPU: Triton's kernels of :mod:`.program`, in float32, float16 and bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..chain import Part
from .program import leave_backward, leave_forward
from .program import triton as found
from .step import Step

__all__ = ["available", "backward", "fits", "forward"]

triton: Any = found  # None without it
TYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST = 16384
REGISTERS = 65536  # of a multiprocessor


def _registers(step: Step, elements: int) -> int:
    """What a thread of the backward needs at so many elements a thread: as seen on an sm_90, to ten per cent or so."""
    return 14 + elements * (2 * _sums(step) + 2 * step.norms + 1)


def _sums(step: Step) -> int:
    """How many parameters there are."""
    return sum(place >= 0 for link in step.links for place in link.places)


def _shape(dim: int, itemsize: int, elements: int) -> dict[str, int]:
    """The block for so many elements a thread, and the warps that share it."""
    padded = max(4, triton.next_power_of_2(dim))  # 4: a block of Philox
    width = min(padded, 32 * 16 // itemsize)
    warps = 4
    while (
        warps < 16 and 32 * warps * elements < padded
    ):  # with more of them a thread has fewer than 128 registers
        warps *= 2
    rows = max(1, 32 * warps * elements // padded)
    return {"CHUNKS": padded // width, "ROWS": rows, "WIDTH": width, "num_warps": warps}


def _forward_shape(dim: int, itemsize: int) -> dict[str, int]:
    return _shape(dim, itemsize, elements=32 if dim > 512 else 16)  # a warp to a row, as far as that goes


def _backward_shape(dim: int, itemsize: int, step: Step) -> dict[str, int]:
    elements = next((e for e in (16, 8) if _registers(step, e) < 240), 4)
    return _shape(dim, itemsize, elements)


def _programs(f: Tensor, step: Step, shape: dict[str, int]) -> int:
    """Programs of the backward: as many as the GPU holds at a time, so that there are few sums to add."""
    threads = 32 * shape["num_warps"]
    elements = shape["CHUNKS"] * shape["ROWS"] * shape["WIDTH"] // threads
    resident = REGISTERS // (threads * min(255, _registers(step, elements)))
    # Triton's interpreter, which runs on the CPU, has programs but no processors
    processors = torch.cuda.get_device_properties(f.device).multi_processor_count if f.is_cuda else 1
    return max(1, min(resident, 2048 // threads)) * processors


def _stacked(parameters: list[Tensor], f: Tensor) -> Tensor:
    if not parameters:
        return f.new_empty(0)
    # of several types one that holds them all, as torch.stack makes it
    return torch.stack(parameters) if len(parameters) > 1 else parameters[0].contiguous()


def _constants(step: Step, seed: int) -> dict[str, Any]:
    """What both kernels are told of a step; AT has the places of each link's tensors, and the number of its norm."""
    norms = 0
    at: list[int] = []
    for link in step.links:
        at += (*link.places, norms)
        norms += link.parts & Part.NORM
    return {
        "PARTS": tuple(link.parts for link in step.links),
        "AT": tuple(at),
        "NUMBERS": tuple(number for link in step.links for number in link[2:]),
        "K": len(step.links),
        "NORMS": norms,
        "THRESHOLD": int(step.drop * 2**32),
        "inverse": 1 / (1 - step.drop),
        "seed": seed,
    }


def available() -> bool:
    """Whether Triton can be imported, as with torch's builds for CUDA."""
    return triton is not None


def fits(f: Tensor) -> bool:
    """Whether this form can take such tensors, here."""
    return available() and f.is_cuda and f.dtype in TYPES and 0 < f.size(-1) <= WIDEST


def forward(f: Tensor, x: Tensor, parameters: list[Tensor], step: Step, seed: int) -> tuple[Tensor, Tensor]:
    """The step's output, and of each norm the mean and inverse deviation, (…, norms, 2).

    Args:
        f: F(x), (…, D), contiguous, as :func:`fits` has it.
        x: of f's shape and type, contiguous.
        parameters: (D,) each, of any types.
        step: what else the links are.
        seed: of the dropout.
    """
    dim = f.size(-1)
    rows = f.numel() // dim
    shape = _forward_shape(dim, f.itemsize)
    y = torch.empty_like(f)
    statistics = f.new_empty(*f.shape[:-1], step.norms, 2, dtype=torch.float32)
    with torch.cuda.device_of(f):
        leave_forward[(triton.cdiv(rows, shape["ROWS"]),)](
            *(f, x, y, _stacked(parameters, f), statistics),
            rows=rows,
            D=dim,
            SLOTS=max(32, triton.next_power_of_2(2 * step.norms)),
            **_constants(step, seed),
            **shape,
        )
    return y, statistics


def backward(
    grad: Tensor, f: Tensor, x: Tensor, parameters: list[Tensor], statistics: Tensor, step: Step, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of f, of x and, (parameters, D), of the parameters; what lies between is computed once more."""
    dim = f.size(-1)
    rows = f.numel() // dim
    shape = _backward_shape(dim, f.itemsize, step)
    programs = min(_programs(f, step, shape), triton.cdiv(rows, shape["ROWS"]))
    df, dx = torch.empty_like(f), torch.empty_like(x)
    sums = f.new_empty(programs, len(parameters), dim, dtype=torch.float32)
    with torch.cuda.device_of(f):
        leave_backward[(programs,)](
            *(grad.contiguous(), f, x, df, dx, _stacked(parameters, f), statistics, sums),
            rows=rows,
            PARAMETERS=len(parameters),
            D=dim,
            **_constants(step, seed),
            **shape,
        )
    return df, dx, sums.sum(0)
