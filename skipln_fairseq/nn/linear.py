"""Linear maps for inference: several in one product, in C, and with 8-bit weights."""

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kernels.decode import Product, product

__all__ = ["Int8Forward", "ProductForward", "join_linears"]


def join_linears(linears: Sequence[nn.Linear]) -> nn.Linear:
    """One map whose output is that of several of the same input, one after another.

    The others' parameters become views of its own, so they take no memory twice and keep their values.
    """
    first = linears[0]
    joint = nn.Linear(
        first.in_features, sum(one.out_features for one in linears), bias=first.bias is not None
    )
    for name in ("weight",) if first.bias is None else ("weight", "bias"):
        whole = torch.cat([getattr(one, name).data for one in linears])
        getattr(joint, name).data = whole
        for one, part in zip(linears, whole.split([one.out_features for one in linears]), strict=True):
            getattr(one, name).data = part
    return joint.eval().requires_grad_(False)


class _Forward:
    """What a linear map computes with from now on; the map's type, parameters and names stay what they were.

    What is computed with is made once: who changes the parameters gives back and takes anew.
    """

    def __init__(self, linear: nn.Linear):
        self.linear = linear
        vars(linear)["forward"] = self

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of the map alone computes with its own parameters
        return MethodType, (nn.Linear.forward, self.linear)

    def give_back(self) -> None:
        """Let it be the plain map again."""
        if self.linear.__dict__.get("forward") is self:
            del self.linear.forward


class Int8Forward(_Forward):
    """x Wᵀ + b with 8-bit weights, a scale for each output, and x rounded to 8 bits between its extremes.

    By torch's own dynamically quantised product; for inference on a CPU.
    """

    def __init__(self, linear: nn.Linear):
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        zeros = torch.zeros(weight.size(0), dtype=torch.long)
        engine = torch.backends.quantized.engine
        torch.backends.quantized.engine = "onednn"  # whose products of many rows are the quickest
        try:
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            bias = None if linear.bias is None else linear.bias.detach().float()
            self.packed = torch.ops.quantized.linear_prepack(quantized, bias)
            # Without VNNI the products of two 8-bit numbers are summed in 16 bits, which 7-bit inputs do not fill.
            self.reduced = not torch.cpu._is_vnni_supported()
        finally:
            torch.backends.quantized.engine = engine
        super().__init__(linear)

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.ops.quantized.linear_dynamic(x.detach(), self.packed, self.reduced)
        # 8 bits have no NaN: a row that has one in it must not become numbers
        return y.add_(x.detach().sum(-1, keepdim=True), alpha=0)


class ProductForward(_Forward):
    """x Wᵀ + b by :class:`.Product`, for inference on CPUs with a C compiler."""

    def __init__(self, linear: nn.Linear, form: str):
        self.product = Product([linear], form)
        super().__init__(linear)

    def __call__(self, x: Tensor) -> Tensor:
        traced = torch.compiler.is_compiling()  # or exported
        if traced or torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
            return F.linear(x, self.linear.weight, self.linear.bias)
        return product(x, self.product)
