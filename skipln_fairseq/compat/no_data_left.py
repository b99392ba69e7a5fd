"""Data of which no sentence is left, empty or all too long, end in one line."""

from typing import Any

from fairseq.data import data_utils

from skipln_fairseq.compat.patch import around
from skipln_fairseq.errors import UserError

__all__ = ["apply"]


def apply() -> None:
    """Look at what all of fairseq's datasets make their batches of."""

    @around(data_utils, "batch_by_size")
    def batch_by_size(stock, indices: Any, *args: Any, **kwargs: Any) -> Any:
        if len(indices) == 0:
            raise UserError(
                "no sentence is left to make batches of: the data are empty, or all of it is longer than "
                "--max-source-positions, --max-target-positions or --tokens-per-sample"
            )
        return stock(indices, *args, **kwargs)
