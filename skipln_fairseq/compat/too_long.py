"""Sentences that are too long for a model are announced under their number, and a set of nothing else is refused.

Without it ``--skip-invalid-size-inputs-valid-test`` lets a line of ``fairseq-interactive`` vanish: what fairseq logs is
its place in the buffer, which is 0. Where nothing is left, training and generation end in an IndexError.
"""

import logging
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.tasks.language_modeling import LanguageModelingTask
from fairseq.tasks.translation import TranslationTask

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

logger = logging.getLogger(__name__)


def apply() -> None:
    """Number what a task is given to translate, as ``fairseq-interactive`` does: from 0, over all buffers."""
    for task in (TranslationTask, LanguageModelingTask):

        @around(task, "build_dataset_for_inference")
        def build_dataset_for_inference(stock, self: FairseqTask, src_tokens: Any, *args: Any, **kwargs: Any):
            dataset = stock(self, src_tokens, *args, **kwargs)
            dataset.first_number = getattr(self, "sentences_given", 0)
            self.sentences_given = dataset.first_number + len(src_tokens)
            return dataset

    @around(FairseqTask, "filter_indices_by_size")
    def filter_indices_by_size(
        stock,
        self: FairseqTask,
        indices: np.ndarray,
        dataset: FairseqDataset,
        max_positions: Any = None,
        ignore_invalid_inputs: bool = False,
    ) -> np.ndarray:
        first = getattr(dataset, "first_number", None)
        if first is None:
            kept = stock(self, indices, dataset, max_positions, ignore_invalid_inputs)
            if len(indices) and not len(kept):
                raise UserError(
                    f"no sentence is left: each of the {len(indices)} is longer than {max_positions} words, which is "
                    "what the data's flags and the model's positions allow"
                )
            return kept
        kept, left_out = dataset.filter_indices_by_size(indices, max_positions)
        for index in sorted(left_out):
            words = int(np.max(dataset.size(index)))
            found = f"S-{first + index} has {words} words, and the model takes {max_positions}"
            if not ignore_invalid_inputs:
                raise UserError(f"{found}; --skip-invalid-size-inputs-valid-test leaves it out")
            logger.warning("%s: left out", found)
        return kept
