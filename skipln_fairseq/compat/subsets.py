"""Parts of a data set, as ``train`` and ``train1``, ``valid`` and ``valid1``, are joined, or named one by one.

fairseq repeats the first of joined parts as often as ``--upsample-primary`` says, which is -1 unless it is given; and
it compares the names of files with those in ``--valid-subset``, which never agree for translation.
"""

from typing import Any

from fairseq.data import ConcatDataset, data_utils

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Join each part once unless more is asked for; compare names of parts."""

    @around(ConcatDataset, "__init__")
    def concat(stock, self: ConcatDataset, datasets: Any, sample_ratios: Any = 1) -> None:
        once = (
            [max(ratio, 1) for ratio in sample_ratios] if isinstance(sample_ratios, list) else sample_ratios
        )
        stock(self, datasets, once)

    @around(data_utils, "_find_extra_valid_paths")
    def find_extra_valid_paths(stock, dataset_path: str) -> set[str]:
        return {name.partition(".")[0] for name in stock(dataset_path)}

    @around(data_utils, "raise_if_valid_subsets_unintentionally_ignored")
    def raise_if_valid_subsets_unintentionally_ignored(stock, cfg: Any) -> None:
        try:
            stock(cfg)
        except ValueError as error:
            raise UserError(str(error)) from error
