"""What fairseq asks of numpy 1 for translation and language models, on numpy 2."""

from types import SimpleNamespace

import numpy as np
from fairseq.data import bucket_pad_length_dataset
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.modules import dynamic_crf_layer

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Put back ``numpy.compat.long``, numpy 1's name for int, and do what else was removed or has changed.

    ``TokenBlockDataset`` (``--sample-break-mode eos``, and so fairseq-generate and fairseq-interactive with
    ``--task language_modeling``) and ``LanguagePairDataset`` (its buckets by length) look it up when they are used.
    """
    if not hasattr(np, "compat"):
        setattr(np, "compat", SimpleNamespace(long=int))  # noqa: B010  (as an attribute it is a name ruff forbids)

    # of numpy, this file of non-autoregressive models uses but one number
    dynamic_crf_layer.np = SimpleNamespace(float=float)

    @around(
        bucket_pad_length_dataset, "get_buckets"
    )  # --num-batch-buckets; percentile's argument has another name
    def get_buckets(stock, sizes: np.ndarray, num_buckets: int) -> np.ndarray:
        steps = np.linspace(0, 100, num_buckets + 1)[1:]
        return np.unique(np.percentile(sizes, steps, method="lower"))

    @around(MMapIndexedDatasetBuilder, "finalize")
    def finalize(stock, self: MMapIndexedDatasetBuilder, index_file: str) -> None:
        # Lengths that workers hand over are numpy's 32-bit integers, which numpy 2 adds up in 32 bits.
        self._sizes = [int(size) for size in self._sizes]
        stock(self, index_file)
