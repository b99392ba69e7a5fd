"""fairseq's language models generate, and data of gigabytes are written, on numpy 2."""

from types import SimpleNamespace

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Put back ``numpy.compat.long``, numpy 1's name for int.

    ``TokenBlockDataset`` (``--sample-break-mode eos``, and so fairseq-generate and fairseq-interactive with
    ``--task language_modeling``) and ``LanguagePairDataset`` (its buckets by length) look it up when they are used.
    """
    if not hasattr(np, "compat"):
        setattr(np, "compat", SimpleNamespace(long=int))  # noqa: B010  (as an attribute it is a name ruff forbids)

    @around(MMapIndexedDatasetBuilder, "finalize")
    def finalize(stock, self: MMapIndexedDatasetBuilder, index_file: str) -> None:
        # Lengths that workers hand over are numpy's 32-bit integers, which numpy 2 adds up in 32 bits.
        self._sizes = [int(size) for size in self._sizes]
        stock(self, index_file)
