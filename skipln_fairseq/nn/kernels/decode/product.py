"""Linear maps of float32 rows by the processor's bfloat16 tiles (AMX)."""

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from .library import pointer, source

__all__ = ["Product", "ProductStruct", "has_tiles", "product"]

SIZES = ("product_size", "product_scratch")


@cache
def has_tiles() -> bool:
    """Whether this processor has them, the system lets us use them, and the compiler knows them."""
    library = source("step") if torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx() else None
    if library is None or not library.has_tiles():
        return False
    for name in SIZES:
        getattr(library, name).restype = ctypes.c_int64
    return True


def _call(name: str, *arguments):
    numbers = (ctypes.c_int64(one) if isinstance(one, int) else one for one in arguments)
    return getattr(source("step"), name)(*numbers)


class ProductStruct(ctypes.Structure):
    """As the source's ``Product``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "parts", "rectified")),
        *((name, ctypes.c_void_p) for name in ("packed", "bias")),
    )


class Product:
    """x Wᵀ + b, or max(x Wᵀ + b, 0), ready to be multiplied.

    Args:
        linears: of the same input; their outputs stand one after another.
        parts: 2 for float32 as a head and a tail in bfloat16, which is float32's product within a few roundings; 1 for
            the head alone, which is bfloat16's.
        rectified: whether negative outputs become zero.
    """

    def __init__(self, linears: Sequence[nn.Linear], parts: int, rectified: bool = False):
        weight = torch.cat([one.weight.detach() for one in linears]).float().contiguous()
        self.outputs, self.inputs = weight.shape
        self.bias = None
        if any(one.bias is not None for one in linears):
            biases = (
                one.weight.new_zeros(len(one.weight)) if one.bias is None else one.bias for one in linears
            )
            self.bias = torch.cat(list(biases)).detach().float()
        # whole cache lines, as tiles are loaded fastest
        self.packed = torch.empty(
            _call("product_size", self.inputs, self.outputs, parts), dtype=torch.bfloat16
        )
        _call("product_pack", pointer(weight), pointer(self.packed), self.inputs, self.outputs, parts)
        self.struct = ProductStruct(
            *(self.inputs, self.outputs, parts, rectified),
            *map(pointer, (self.packed, self.bias)),
        )


def product(x: Tensor, by: Product) -> Tensor:
    """(…, inputs) to (…, outputs), float32, without gradients."""
    x = x.contiguous()
    rows = x.numel() // by.inputs
    y = x.new_empty(*x.shape[:-1], by.outputs)
    scratch = x.new_empty(_call("product_scratch", rows, by.inputs), dtype=torch.bfloat16)
    threads = torch.get_num_threads()
    _call("product", ctypes.byref(by.struct), pointer(x), pointer(y), rows, pointer(scratch), threads)
    return y
