"""Attention of one query a row to records."""

import ctypes

import torch
from torch import Tensor

from .library import call
from .records import Records

__all__ = ["attend"]


class _Memory(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "heads", "dim", "positions")),
        *((name, ctypes.c_int64) for name in ("query_stride", "record_stride", "key", "value")),
        *((name, ctypes.c_void_p) for name in ("records", "table")),
        ("scale", ctypes.c_float),
    )


def attend(
    query: Tensor, records: Records, table: Tensor, heads: int, weights: bool = False
) -> tuple[Tensor, Tensor | None]:
    """softmax(q kᵀ / √d) v for each head, of one query a row.

    Args:
        query: (rows, dim), also a view of wider rows.
        records: of each position its records, keys and values of dim features among them.
        table: (rows, positions), int32: which of a position's records a row attends to, below 0 for none.
        heads: of d = dim / heads features each.
        weights: whether softmax(…) is returned too.

    Returns:
        (rows, dim), zeros where a row attends to nothing; (heads, rows, positions) in float32, or None
    """
    rows, dim = query.shape
    table = table.contiguous()
    out = query.new_empty(rows, dim)
    found = query.new_empty(heads, rows, len(records), dtype=torch.float32) if weights else None
    memory = _Memory(
        *(rows, heads, dim // heads, len(records)),
        *(query.stride(0), records.stride, records.key, records.value),
        *(records.addresses.buffer_info()[0], table.data_ptr(), (dim // heads) ** -0.5),
    )
    call("attend", memory, query.dtype, query, out, found)
    return out, found
