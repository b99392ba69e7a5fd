"""Linear maps of float32 rows by the processor's tiles (AMX)."""

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from .library import pointer, source

__all__ = ["FORMS", "Product", "ProductStruct", "has_tiles", "product"]

SIZES = ("product_size", "product_scratch")
FORMS = ("int8", "bf16", "fp32")
"""In the order of the source's numbers."""


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
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "form", "rectified")),
        *((name, ctypes.c_void_p) for name in ("packed", "scales", "bias")),
    )


class Product:
    """x Wᵀ + b, or max(x Wᵀ + b, 0), ready to be multiplied.

    Args:
        linears: of the same input; their outputs stand one after another.
        form: fp32: each number as a head and a tail in bfloat16, which is float32's product but for a rest of 2⁻¹⁶;
            bf16: the head alone, which is bfloat16's product; int8: whole numbers to 127 and a scale for each row and
            each output.
        rectified: whether negative outputs become zero.

    Raises:
        RuntimeError: where not :func:`has_tiles`, or for weights elsewhere.
    """

    def __init__(self, linears: Sequence[nn.Linear], form: str, rectified: bool = False):
        if not has_tiles():  # asking also has the system let us use them
            raise RuntimeError("this processor has no tiles")
        if any(one.weight.device.type != "cpu" for one in linears):
            raise RuntimeError("products by tiles are of weights on the CPU")
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
        raise RuntimeError(
            f"products by tiles are of float32 rows on the CPU, not of {x.dtype} on {x.device}"
        )
    x = x.contiguous()
    rows = x.numel() // by.inputs
    y = x.new_empty(*x.shape[:-1], by.outputs)
    scratch = torch.empty(_call("product_scratch", rows, by.inputs), dtype=torch.uint8)
    threads = torch.get_num_threads()
    _call("product", ctypes.byref(by.struct), pointer(x), pointer(y), rows, pointer(scratch), threads)
    return y
