"""Linear maps for inference: several in one product, by tiles, and with 8-bit weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kernels.decode import Product, product

__all__ = ["Int8Linear", "ProductLinear", "join_linears"]


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


class Int8Linear(nn.Linear):
    """x Wᵀ + b with 8-bit weights, a scale for each output, and x rounded to 8 bits between its extremes.

    By torch's own dynamically quantised product; for inference on a CPU. The parameters stay what they were, so a state
    dict is that of the map it was made of.
    """

    @classmethod
    def take(cls, linear: nn.Linear) -> "Int8Linear":
        """Make this of a module."""
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        zeros = torch.zeros(weight.size(0), dtype=torch.long)
        engine = torch.backends.quantized.engine
        torch.backends.quantized.engine = "onednn"  # whose products of many rows are the quickest
        try:
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            bias = None if linear.bias is None else linear.bias.detach().float()
            linear.__dict__["packed"] = torch.ops.quantized.linear_prepack(quantized, bias)
            # Without VNNI the products of two 8-bit numbers are summed in 16 bits, which 7-bit inputs do not fill.
            linear.__dict__["reduced"] = not torch.cpu._is_vnni_supported()
        finally:
            torch.backends.quantized.engine = engine
        linear.__class__ = cls
        return linear

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ops.quantized.linear_dynamic(x, self.packed, self.reduced)
        # 8 bits have no NaN: a row that has one in it must not become numbers
        return y.add_(x.sum(-1, keepdim=True), alpha=0)

    def give_back(self) -> None:
        """Be the plain map again."""
        self.__class__ = nn.Linear
        del self.__dict__["packed"], self.__dict__["reduced"]


class ProductLinear(nn.Linear):
    """x Wᵀ + b by the processor's tiles (:class:`.Product`), for inference where :func:`.has_tiles`."""

    @classmethod
    def take(cls, linear: nn.Linear, form: str) -> "ProductLinear":
        """Make this of a module."""
        linear.__dict__["product"] = Product([linear], form)
        linear.__class__ = cls
        return linear

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
            return F.linear(x, self.weight, self.bias)
        return product(x, self.product)

    def give_back(self) -> None:
        """Be the plain map again."""
        self.__class__ = nn.Linear
        del self.__dict__["product"]
