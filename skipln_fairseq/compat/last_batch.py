"""No sentence is lost at the end of a data set.

fairseq's main branch, and with it the releases for Python 3.11, throws the last batch away unless its size
is a multiple of ``--required-batch-size-multiple`` (8 by default; fairseq issues 5036 and 5351). Batches go
by length, so fairseq-generate leaves out some of the longest sentences, and BLEU is that of another test
set; training never sees them, and validation neither.
"""

from collections.abc import Sequence
from typing import Any

from fairseq.data import data_utils

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Put it back. All data sets call ``data_utils.batch_by_size``, which cuts their indices into pieces."""

    @around(data_utils, "batch_by_size")
    def batch_by_size(stock, indices: Sequence[int], *args: Any, **kwargs: Any) -> list[Sequence[int]]:
        batches = stock(indices, *args, **kwargs)
        batched = sum(map(len, batches))
        if kwargs.get("fixed_shapes") is None and batched < len(indices):
            batches = [*batches, indices[batched:]]
        return batches
