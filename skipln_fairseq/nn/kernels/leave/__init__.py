"""The leave-step of a sub-layer in one piece: dropout, the skip with x, and all the norms of the recursion.

    y_0 = dropout(F(x));   y_k = LN_k(λ x + y_{k-1}),  k = 1 … K;   the output is y_K, or λ x + y_0 where K is 0

There are three forms, which agree within the rounding of their type: ``cuda`` (Triton), ``cpu`` (C, compiled on first
use) and ``eager`` (torch's operations, any device and type). Each keeps for the backward F(x), x (which the
caller holds anyway) and two numbers a norm and row, without norms none of this; the compiled ones draw the dropout anew
from its seed.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import cpu, eager
from .step import Step

__all__ = ["leave"]


def _form(f: Tensor):
    if type(f) not in (Tensor, nn.Parameter):  # a stand-in without memory, that a tracer hands in
        return eager
    compiled: ModuleType = cpu
    if f.is_cuda:
        from . import cuda  # which imports Triton: it takes longer than all the rest of this package

        compiled = cuda
    return compiled if compiled.fits(f) else eager


def _check(f: Tensor, norms: Sequence[nn.LayerNorm]) -> None:
    for norm in norms:
        if norm.normalized_shape != (f.size(-1),) or norm.weight is None or norm.bias is None:
            raise ValueError(f"the leave-step of {f.size(-1)} features has no form with the norm {norm}")
        if norm.eps != norms[0].eps:
            raise ValueError(f"the norms of a leave-step have one eps, not {norms[0].eps} and {norm.eps}")


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, step: Step, f: Tensor, x: Tensor, *parameters: Tensor) -> Tensor:
        half = len(parameters) // 2
        form = _form(f)
        y, saved = form.forward(f, x, list(parameters[:half]), list(parameters[half:]), step)
        ctx.form, ctx.step, ctx.half = form, step, half
        ends = (f, x) if half else (None, None)
        ctx.save_for_backward(*ends, *parameters, *saved)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        f, x, *rest = ctx.saved_tensors
        weights, biases, saved = rest[: ctx.half], rest[ctx.half : 2 * ctx.half], rest[2 * ctx.half :]
        grad = grad.contiguous()
        if ctx.half == 0:
            f = x = grad  # of which the shape is read, and nothing else
        df, dx, dw, db = ctx.form.backward(grad, f, x, weights, biases, ctx.step, saved)
        return None, df, dx, *dw, *db


def leave(
    f: Tensor, x: Tensor, norms: Sequence[nn.LayerNorm] = (), scale: float = 1.0, drop: float = 0.0
) -> Tensor:
    """The leave-step.

    Args:
        f: F(x), (…, dim).
        x: the sub-layer's input, broadcastable with f.
        norms: LN_1 … LN_K over dim, with gains and biases and one eps.
        scale: λ.
        drop: the probability with which an element of F(x) is dropped, the others being scaled by 1/(1 − drop).
            The draw follows torch's default generator; which elements it drops differs between the forms.

    Returns:
        y, (…, dim), in the wider of the two types; under autocast in float32, as a norm's output there.

    Raises:
        ValueError: for norms of another width, or without gain or bias, or of several eps.
    """
    _check(f, norms)
    dtype = torch.promote_types(f.dtype, x.dtype)
    if f.device.type != "meta" and torch.is_autocast_enabled(f.device.type):
        dtype = torch.float32
    f, x = torch.broadcast_tensors(f, x)
    f, x = f.to(dtype).contiguous(), x.to(dtype).contiguous()
    seed = int(torch.randint(2**63 - 1, ())) if drop else 0
    step = Step(scale, drop, norms[0].eps if norms else 0.0, seed)
    return _Leave.apply(step, f, x, *(norm.weight for norm in norms), *(norm.bias for norm in norms))
