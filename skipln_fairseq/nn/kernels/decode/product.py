"""Linear maps of float32 rows, in a type of choice."""

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from .library import pointer, source

__all__ = ["FORMS", "Product", "ProductStruct", "kind", "product"]

SIZES = ("product_size", "product_scratch")
FORMS = ("int8", "bf16", "fp32")
"""In the order of the source's numbers."""


@cache
def kind() -> str | None:
    """What this processor multiplies by: amx, avx512-vnni, avx512, avx2-vnni, avx2, neon-dotprod, or portable, which
    is what any C compiler makes of it; None where there is no compiler."""
    library = source("step")
    if library is None:
        return None
    for name in SIZES:
        getattr(library, name).restype = ctypes.c_int64
    library.kind.restype = ctypes.c_char_p
    return library.kind().decode()


def _call(name: str, *arguments):
    numbers = (ctypes.c_int64(one) if isinstance(one, int) else one for one in arguments)
    return getattr(source("step"), name)(*numbers)


class ProductStruct(ctypes.Structure):
    """As the source's ``Product``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "form", "rectified")),
        *((name, ctypes.c_void_p) for name in ("packed", "scales", "bias")),
    )


class Product:
    """x Wᵀ + b, or max(x Wᵀ + b, 0), ready to be multiplied.

    Args:
        linears: of the same input; their outputs stand one after another.
        form: fp32: float32's product; amx takes each number as a head and a tail in bfloat16, which leaves a rest of
            2⁻¹⁶. bf16: bfloat16's product; where the processor does not multiply these, weights are rounded to
            bfloat16, and x is not. int8: whole numbers to 127 and a scale for each row and each output; of avx2
            and avx512 the weights go to 64 only, so that two products' sum fits 16 bits.
        rectified: whether negative outputs become zero.

    Raises:
        RuntimeError: where there is no compiler, or for weights elsewhere.
    """

    def __init__(self, linears: Sequence[nn.Linear], form: str, rectified: bool = False):
        if kind() is None:
            raise RuntimeError("products in C need a C compiler")
        if any(one.weight.device.type != "cpu" for one in linears):
            raise RuntimeError("products in C are of weights on the CPU")
        weight = torch.cat([one.weight.detach() for one in linears]).float().contiguous()
        self.outputs, self.inputs = weight.shape
        self.bias = None
        if any(one.bias is not None for one in linears):
            biases = (
                one.weight.new_zeros(len(one.weight)) if one.bias is None else one.bias for one in linears
            )
            self.bias = torch.cat(list(biases)).detach().float()
        self.scales = torch.empty(self.outputs) if form == "int8" else None
        number = FORMS.index(form)
        size = _call("product_size", self.inputs, self.outputs, number)
        self.packed = torch.empty(size, dtype=torch.uint8)
        _call(
            *("product_pack", pointer(weight), pointer(self.packed), pointer(self.scales)),
            *(self.inputs, self.outputs, number),
        )
        self.struct = ProductStruct(
            *(self.inputs, self.outputs, number, rectified),
            *map(pointer, (self.packed, self.scales, self.bias)),
        )


def product(x: Tensor, by: Product) -> Tensor:
    """(…, inputs) to (…, outputs), float32, without gradients.

    Raises:
        RuntimeError: for rows of another type, or elsewhere than on the CPU.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise RuntimeError(f"products in C are of float32 rows on the CPU, not of {x.dtype} on {x.device}")
    x = x.contiguous()
    rows = x.numel() // by.inputs
    y = x.new_empty(*x.shape[:-1], by.outputs)
    scratch = torch.empty(_call("product_scratch", rows, by.inputs), dtype=torch.uint8)
    threads = torch.get_num_threads()
    _call("product", ctypes.byref(by.struct), pointer(x), pointer(y), rows, pointer(scratch), threads)
    return y
