"""The leave-step in torch's operations: what the compiled forms are held against, and what runs where they cannot."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from .step import Step

__all__ = ["backward", "forward"]


def _dropped(f: Tensor, noise: Tensor | None) -> Tensor:
    return f if noise is None else f * noise


def _noise(f: Tensor, step: Step) -> Tensor | None:
    if step.drop == 0:
        return None
    return torch.empty_like(f).bernoulli_(1 - step.drop).div_(1 - step.drop)


def _wide(tensors: Iterable[Tensor]) -> list[Tensor]:
    """In single precision at least: torch adds up a norm's gradients in the type that they have."""
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


def forward(f: Tensor, x: Tensor, weights: list[Tensor], biases: list[Tensor], step: Step):
    """``(y, saved)``: the step's output and what :func:`backward` needs besides f and x."""
    dtype = f.dtype
    (f, x), weights, biases = _wide((f, x)), _wide(weights), _wide(biases)
    noise = _noise(f, step)
    y = _dropped(f, noise)
    statistics = []
    for weight, bias in zip(weights, biases, strict=True):
        v = torch.add(y, x, alpha=step.scale)
        y, mean, rstd = torch.native_layer_norm(v, [v.size(-1)], weight, bias, step.eps)
        statistics += [mean, rstd]
    if not weights:
        y = torch.add(y, x, alpha=step.scale)
    return y.to(dtype), (noise, *statistics)


def backward(
    grad: Tensor, f: Tensor, x: Tensor, weights: list[Tensor], biases: list[Tensor], step: Step, saved
):
    """The gradients ``(df, dx, [dw], [db])``; the sums between the norms are computed once more."""
    noise, *statistics = saved
    dtype, dtypes = f.dtype, [weight.dtype for weight in weights]
    (grad, f, x), weights, biases = _wide((grad, f, x)), _wide(weights), _wide(biases)
    sums = []
    y = _dropped(f, noise)
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        sums.append(torch.add(y, x, alpha=step.scale))
        if k + 1 < len(weights):
            y = F.layer_norm(sums[-1], [f.size(-1)], weight, bias, step.eps)
    dx = None
    dw: list[Tensor] = []
    db: list[Tensor] = []
    for k in reversed(range(len(weights))):
        mean, rstd = statistics[2 * k : 2 * k + 2]
        grad, dw_k, db_k = torch.ops.aten.native_layer_norm_backward(
            grad, sums[k], [f.size(-1)], mean, rstd, weights[k], biases[k], [True, True, True]
        )
        dx = grad if dx is None else dx + grad
        dw.insert(0, dw_k.to(dtypes[k]))
        db.insert(0, db_k.to(dtypes[k]))
    dx = grad if dx is None else dx
    return _dropped(grad, noise).to(dtype), (step.scale * dx).to(dtype), dw, db
