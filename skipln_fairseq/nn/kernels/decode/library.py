"""The compiled C of this folder."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .. import compiled
from ..types import TYPES

__all__ = ["call", "fits", "loaded", "pointer", "source"]

FOLDER = Path(__file__).parent
FUSED = ("-ffp-contract=fast",)  # a product and a sum in one instruction, which ISO C leaves to be asked for


@cache
def source(name: str) -> ctypes.CDLL | None:
    """The compiled library of a file of this folder, or None where there is no compiler."""
    return compiled.load(FOLDER / f"{name}.c", *FUSED, *_tiles())


def _tiles() -> tuple[str, ...]:
    """A program has to ask the system for the processor's matrix tiles, and some systems do not give them."""
    given = torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx()
    return ("-DTILES",) if given else ()


def loaded(name: str) -> ctypes.CDLL:
    """The same, for those who know that there is one (:func:`fits`)."""
    library = source(name)
    assert library is not None
    return library


def fits(x: Tensor) -> bool:
    """Whether :func:`.attend` and :func:`.best` take such tensors, here."""
    return x.device.type == "cpu" and x.dtype in TYPES and source("attend") is not None


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's elements are; NULL for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def call(name: str, what: ctypes.Structure, dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """Call the function after which a file is named, on as many threads as torch has."""
    threads = ctypes.c_int64(torch.get_num_threads())
    getattr(source(name), name)(ctypes.byref(what), TYPES[dtype], *map(pointer, tensors), threads)
