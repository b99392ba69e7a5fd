"""Chains for the leave-step's tests, and what they are by their definition, in float64 and by autograd."""

import torch
from torch import Tensor

from skipln_fairseq.nn.kernels.chain import Link, Norming, Part
from skipln_fairseq.nn.kernels.leave.step import flat, read


class Draw:
    """Numbers of one generator: vectors, and gains away from 1."""

    def __init__(self, dim, dtype=torch.float32, seed=7, device="cpu"):
        self.dim, self.dtype, self.device = dim, dtype, device
        self.generator = torch.Generator().manual_seed(seed)

    def vector(self, size=None):
        drawn = torch.randn(size or self.dim, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.device, self.dtype)

    def gain(self):
        return 1 + 0.3 * self.vector()


CENTRED = Part.NORM | Part.CENTRED
NORMS = {
    "none": lambda draw, eps: Norming(0, 0.0),
    "layer": lambda draw, eps: Norming(Part.LAYER, eps, draw.gain(), draw.vector()),
    "layer-simple": lambda draw, eps: Norming(Part.LAYER, eps),
    "layer, no bias": lambda draw, eps: Norming(Part.LAYER, eps, draw.gain()),
    "layer, no gain": lambda draw, eps: Norming(Part.LAYER, eps, None, draw.vector()),
    "rms": lambda draw, eps: Norming(Part.RMS, eps, draw.gain()),
    "ada": lambda draw, eps: Norming(Part.LAYER | Part.BRACKET, eps, scale=1.5, slope=0.2),
    "detach": lambda draw, eps: Norming(CENTRED, eps),
    "detach-mean": lambda draw, eps: Norming(CENTRED | Part.DEVIATION, eps),
    "detach-deviation": lambda draw, eps: Norming(CENTRED | Part.MEAN, eps),
}


def layers(order, draw, scale=1.0, eps=1e-5):
    """The recursion of layer norms; without any the sum."""
    return [Link(scale, norm=NORMS["layer"](draw, eps)) for _ in range(order)] or [Link(scale)]


def of_norm(name, draw, eps=1e-5):
    """A norm three times: after the branch, in the recursion, and last."""
    first, second, last = (NORMS[name](draw, eps) for _ in range(3))
    return [Link(0.0, norm=first), Link(1.3, norm=second), Link(norm=last)]


CHAINS = {
    **{f"{name} norm": lambda draw, name=name: of_norm(name, draw) for name in NORMS},
    "DeepNorm": lambda draw: [Link(1.7, norm=NORMS["layer"](draw, 1e-5))],
    "LayerScale": lambda draw: [Link(1.0, draw.vector())],
    "ReZero": lambda draw: [Link(1.0, draw.vector(1))],
    "Admin": lambda draw: [Link(draw.vector(), norm=NORMS["layer"](draw, 1e-5))],
    "learned, res-post": lambda draw: [Link(0.0, norm=NORMS["rms"](draw, 1e-6)), Link(draw.vector())],
    "everything": lambda draw: [
        Link(draw.vector(), -0.7, NORMS["ada"](draw, 1e-3)),
        Link(0.5, draw.vector(), NORMS["detach-mean"](draw, 1e-5)),
        Link(draw.vector(), draw.vector(), NORMS["layer"](draw, 1e-5)),
        Link(-1.0, draw.vector(1)),
        Link(0.3, draw.vector(), NORMS["rms"](draw, 1e-6)),
    ],
}


def normed(v: Tensor, norm: Norming) -> Tensor:
    """N(v), as the norm's module has it."""
    parts = norm.parts
    mean = v.mean(-1, keepdim=True) if parts & Part.CENTRED else v.new_zeros(())
    variance = (v - mean).square().mean(-1, keepdim=True)
    mean, variance = (
        one if parts & bit else one.detach() for one, bit in ((mean, Part.MEAN), (variance, Part.DEVIATION))
    )
    y = (v - mean) / (variance + norm.eps).sqrt()
    if parts & Part.BRACKET:
        y = norm.scale * (1 - norm.slope * y.detach()) * y
    y = y if norm.weight is None else norm.weight * y
    return y if norm.bias is None else y + norm.bias


def by_definition(f: Tensor, x: Tensor, chain: list[Link]) -> Tensor:
    """The chain of F(x), after the dropout."""
    y = f
    for link in chain:
        y = link.of_x * x + link.of_y * y
        y = y if link.norm is None or link.norm.parts == 0 else normed(y, link.norm)
    return y


def changed(chain: list[Link], change) -> list[Link]:
    """The chain with other tensors."""

    def one(given):
        return change(given) if isinstance(given, Tensor) else given

    return [
        Link(one(a), one(b), norm and norm._replace(weight=one(norm.weight), bias=one(norm.bias)))
        for a, b, norm in chain
    ]


def tensors_of(chain: list[Link]) -> list[Tensor]:
    """A chain's tensors, as :func:`flat` has them, and their own sizes."""
    found: list[Tensor] = []
    changed(chain, lambda tensor: found.append(tensor) or tensor)
    return found


def exact(f: Tensor, x: Tensor, chain: list[Link], dy: Tensor, noise: Tensor | float = 1.0):
    """Output, and gradients of f, x and each tensor of the chain, spread over the features: all in float64."""
    wide = changed(chain, lambda tensor: tensor.detach().double().expand(f.size(-1)).clone().requires_grad_())
    f, x = (one.detach().double().requires_grad_() for one in (f, x))
    y = by_definition(f * noise, x, wide)
    inputs = [f, x, *tensors_of(wide)]
    gradients = torch.autograd.grad(y, inputs, dy.double(), materialize_grads=True, allow_unused=True)
    return [y.detach(), *gradients]


def in_form(call, form, f: Tensor, x: Tensor, chain: list[Link], dy: Tensor, drop=0.0, seed=0):
    """The same by one form, whose functions ``call`` calls: and the statistics."""
    parameters, parts, numbers = flat(chain, f.size(-1))
    step = read(tuple(parts), tuple(numbers), drop)
    y, statistics = call(form.forward, f, x, parameters, step, seed)
    df, dx, sums = call(form.backward, dy, f, x, parameters, statistics, step, seed)
    return [y, df, dx, *sums], statistics


def here(function, *arguments):
    """A call in this process."""
    return function(*arguments)
