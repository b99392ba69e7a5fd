"""The leave-step in torch's operations: what the compiled forms are held against, and what runs where they cannot."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..chain import Part
from .step import Fixed, Step

__all__ = ["backward", "forward"]

Factor = Tensor | float


def _wide(tensors: Iterable[Tensor]) -> list[Tensor]:
    """In single precision at least: torch adds up a norm's gradients in the type that they have."""
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


def _noise(f: Tensor, drop: float, seed: int) -> Tensor | float:
    if drop == 0:
        return 1.0
    generator = torch.Generator(f.device).manual_seed(seed)
    return torch.empty_like(f).bernoulli_(1 - drop, generator=generator).div_(1 - drop)


def _factors(link: Fixed, parameters: list[Tensor]) -> tuple[Factor, Factor]:
    """a and b."""
    a, b, _, _ = link.places
    return (link.of_x if a < 0 else parameters[a], link.of_y if b < 0 else parameters[b])


def _sum(link: Fixed, parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    a, b = _factors(link, parameters)
    return a * x + (y if isinstance(b, float) and b == 1 else b * y)


def _normal(link: Fixed, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """n, and the mean and inverse deviation by which it is made."""
    if link.parts & Part.CENTRED:
        return torch.native_layer_norm(v, [v.size(-1)], None, None, link.eps)
    rstd = (v.square().mean(-1, keepdim=True) + link.eps).rsqrt()
    return v * rstd, torch.zeros_like(rstd), rstd


def _after(link: Fixed, parameters: list[Tensor], n: Tensor) -> Tensor:
    """What a norm makes of n."""
    _, _, gain, bias = link.places
    y = link.scale * (1 - link.slope * n) * n if link.parts & Part.BRACKET else n
    y = y if gain < 0 else y * parameters[gain]
    return y if bias < 0 else y + parameters[bias]


def forward(f: Tensor, x: Tensor, parameters: list[Tensor], step: Step, seed: int) -> tuple[Tensor, Tensor]:
    """The step's output, and each norm's mean and inverse deviation, (…, norms, 2)."""
    dtype = f.dtype
    (f, x), parameters = _wide((f, x)), _wide(parameters)
    y = f * _noise(f, step.drop, seed)
    statistics = []
    for link in step.links:
        y = _sum(link, parameters, x, y)
        if link.parts & Part.NORM:
            n, *pair = _normal(link, y)
            statistics.append(torch.cat(pair, -1))
            y = _after(link, parameters, n)
    kept = torch.stack(statistics, -2) if statistics else f.new_empty(*f.shape[:-1], 0, 2)
    return y.to(dtype), kept


def _through_norm(link: Fixed, parameters: list[Tensor], n: Tensor, rstd: Tensor, grad: Tensor) -> Tensor:
    """The gradient of v, from that of N(v)."""
    gain = link.places[2]
    grad = grad if gain < 0 else grad * parameters[gain]
    if link.parts & Part.BRACKET:
        grad = grad * (link.scale * (1 - link.slope * n))
    along = grad
    if link.parts & Part.MEAN:
        along = along - grad.mean(-1, keepdim=True)
    if link.parts & Part.DEVIATION:
        along = along - n * (grad * n).mean(-1, keepdim=True)
    return along * rstd


def _recompute(f: Tensor, x: Tensor, parameters: list[Tensor], step: Step, statistics: Tensor):
    """Recompute for each link the y before it, and its norm's n and 1/σ."""
    passed, y, norms = [], f, iter(statistics.unbind(-2))
    for link in step.links:
        v = _sum(link, parameters, x, y)
        n = rstd = None
        if link.parts & Part.NORM:
            mean, rstd = next(norms).split(1, -1)
            n = (v - mean) * rstd
        passed.append((y, n, rstd))
        y = v if n is None else _after(link, parameters, n)
    return passed


def backward(
    grad: Tensor, f: Tensor, x: Tensor, parameters: list[Tensor], statistics: Tensor, step: Step, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of f, of x and, (parameters, dim), of the parameters; what lies between is recomputed."""
    dtype = f.dtype
    (grad, f, x), parameters = _wide((grad, f, x)), _wide(parameters)
    noise = _noise(f, step.drop, seed)
    passed = _recompute(f * noise, x, parameters, step, statistics)
    dx = torch.zeros_like(x)
    found = f.new_empty(len(parameters), f.size(-1))
    for link, (y, n, rstd) in zip(reversed(step.links), reversed(passed), strict=True):
        of_x, of_y, gain, bias = link.places
        a, b = _factors(link, parameters)
        total = tuple(range(grad.dim() - 1))
        if bias >= 0:
            found[bias] = grad.sum(total)
        if gain >= 0:
            found[gain] = (grad * n).sum(total)
        if n is not None:
            grad = _through_norm(link, parameters, n, rstd, grad)
        if of_x >= 0:
            found[of_x] = (grad * x).sum(total)
        if of_y >= 0:
            found[of_y] = (grad * y).sum(total)
        dx = dx + grad * a
        grad = grad * b
    return (grad * noise).to(dtype), dx.to(dtype), found
