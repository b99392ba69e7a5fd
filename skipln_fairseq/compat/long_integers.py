"""fairseq's language models generate, and read a sentence at a time, on numpy 2."""

from types import SimpleNamespace

import numpy as np

__all__ = ["apply"]


def apply() -> None:
    """Put back ``numpy.compat.long``, numpy 1's name for int.

    ``TokenBlockDataset`` (``--sample-break-mode eos``, and so fairseq-generate and fairseq-interactive with
    ``--task language_modeling``) and ``LanguagePairDataset`` (its buckets by length) look it up when they are used.
    """
    if not hasattr(np, "compat"):
        setattr(np, "compat", SimpleNamespace(long=int))  # noqa: B010  (as an attribute it is a name ruff forbids)
