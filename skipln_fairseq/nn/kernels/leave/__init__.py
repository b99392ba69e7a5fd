"""The leave-step of a sub-layer in one piece: dropout, the skip with x, and all the norms of the recursion.

    y_0 = dropout(F(x));   y_k = N_k(a_k ⊙ x + b_k ⊙ y_{k−1}),  k = 1 … K;   the output is y_K

It is one operator of torch's forward and one backward (:mod:`..operators`), of three forms, which agree within the
rounding of their type: ``cuda`` (Triton), ``cpu`` (C, compiled on first use) and ``eager`` (torch's operations, any
device and type). Kept for the backward are F(x), x (which the caller holds anyway) and two numbers a norm and row,
without norms and learned factors none of this. The dropout is drawn anew from its seed, which is a tensor on the CPU:
so a traced program draws another one in each call, and nothing waits for a GPU. (A CUDA graph that is captured by hand
would hold the number, and repeat its draw; those of ``torch.compile`` hold nothing of a CPU.)

The operator is differentiated once, and backward only: a second derivative raises, and so do the transforms of
``torch.func``.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..chain import Link, Part
from ..operators import below_autograd, define, differentiate
from . import cpu, eager
from .step import flat, read

__all__ = ["leave"]


def _form(f: Tensor) -> ModuleType:
    compiled: ModuleType = cpu
    if f.is_cuda:
        from . import cuda  # which imports Triton: it takes longer than all the rest of this package

        compiled = cuda
    return compiled if compiled.fits(f) else eager


def _number(seed: Tensor | None) -> int:
    return 0 if seed is None else int(seed)


def _wide(f: Tensor) -> torch.dtype:
    """The type of sums."""
    return torch.promote_types(f.dtype, torch.float32)


def _forward(f, x, seed, parameters, parts, numbers, drop):
    step = read(tuple(parts), tuple(numbers), drop)
    return _form(f).forward(f.contiguous(), x.contiguous(), parameters, step, _number(seed))


def _fake_forward(f, x, seed, parameters, parts, numbers, drop):
    norms = sum(bits & Part.NORM for bits in parts)
    return f.new_empty(f.shape), f.new_empty(*f.shape[:-1], norms, 2, dtype=_wide(f))


def _backward(grad, f, x, seed, parameters, statistics, parts, numbers, drop):
    step = read(tuple(parts), tuple(numbers), drop)
    grad, f, x = (one.contiguous() for one in (grad, f, x))
    return _form(f).backward(grad, f, x, parameters, statistics, step, _number(seed))


def _fake_backward(grad, f, x, seed, parameters, statistics, parts, numbers, drop):
    sums = f.new_empty(len(parameters), f.size(-1), dtype=_wide(f))
    return f.new_empty(f.shape), x.new_empty(x.shape), sums


_FIXED = "int[] parts, float[] numbers, float drop"
_operator = define(
    f"leave(Tensor f, Tensor x, Tensor? seed, Tensor[] parameters, {_FIXED}) -> (Tensor, Tensor)",
    _forward,
    _fake_forward,
)
_operator_backward = define(
    "leave_backward(Tensor grad, Tensor f, Tensor x, Tensor? seed, Tensor[] parameters, Tensor statistics, "
    f"{_FIXED}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, f: Tensor, x: Tensor, seed: Tensor | None, fixed: tuple, *parameters: Tensor):
        with below_autograd():
            y, statistics = _operator(f, x, seed, parameters, *fixed)
        ctx.mark_non_differentiable(statistics)
        ctx.fixed = fixed
        ends = (f, x) if parameters or statistics.size(-2) else (None, None)
        ctx.save_for_backward(*ends, seed, statistics, *parameters)
        return y, statistics

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, _):
        f, x, seed, statistics, *parameters = ctx.saved_tensors
        if f is None:
            f = x = grad  # of which the size is read, and nothing else
        df, dx, sums = _operator_backward(grad, f, x, seed, parameters, statistics, *ctx.fixed)
        return df, dx, None, None, *(own.to(one.dtype) for own, one in zip(sums, parameters, strict=True))


def _differentiable(f, x, seed, parameters, *fixed):
    if not torch.is_grad_enabled():  # some microseconds less
        with below_autograd():
            return _operator(f, x, seed, parameters, *fixed)
    return _Leave.apply(f, x, seed, fixed, *parameters)


differentiate(_operator, _differentiable)


def leave(f: Tensor, x: Tensor, links: Sequence[Link] = (Link(),), drop: float = 0.0) -> Tensor:
    """The leave-step.

    Args:
        f: F(x), (…, dim).
        x: the sub-layer's input, broadcastable with f.
        links: the chain, :func:`.resolved`.
        drop: the probability with which an element of F(x) is dropped, the others being scaled by 1/(1 − drop).
            The draw follows torch's default generator; which elements it drops differs between the forms.

    Returns:
        y, (…, dim), in the wider of the two types; under autocast in float32, as a norm's output there.

    Raises:
        ValueError: for norms or factors of another width, or norms that are not resolved.
    """
    parameters, parts, numbers = flat(links, f.size(-1))
    dtype = torch.promote_types(f.dtype, x.dtype)
    if f.device.type != "meta" and torch.is_autocast_enabled(f.device.type):
        dtype = torch.float32
    if f.shape != x.shape:
        f, x = torch.broadcast_tensors(f, x)
    f, x = f.to(dtype).contiguous(), x.to(dtype).contiguous()
    seed = torch.randint(2**63 - 1, ()) if drop else None
    y, _ = _operator(f, x, seed, parameters, parts, numbers, drop)
    return y
