"""``fairseq-eval-lm`` measures all of the text, or says that the model cannot.

Without it blocks that are longer than the model's positions are left out, and the perplexity is of the rest: 1.00
where nothing is left, as in a shard that gets no batch.
"""

import itertools
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset
from fairseq.data.iterators import CountingIterator
from fairseq.tasks.language_modeling import LanguageModelingTask

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Use that ``fairseq-eval-lm`` alone calls ``eval_lm_dataloader``."""

    @around(LanguageModelingTask, "eval_lm_dataloader")
    def eval_lm_dataloader(
        stock,
        self: LanguageModelingTask,
        dataset: FairseqDataset,
        *,
        max_positions: int | None,
        **kwargs: Any,
    ) -> Any:
        longest = int(np.max(dataset.sizes))
        if max_positions is not None and longest > max_positions:
            raise UserError(
                f"a block of the text has {longest} words, and the model was made for {max_positions}: give "
                f"--tokens-per-sample {max_positions} or less, and --sample-break-mode none for longer sentences"
            )
        batches = stock(self, dataset, max_positions=max_positions, **kwargs)
        first = next(batches, None)
        if not first:  # fairseq fills up with empty ones
            raise UserError(
                "--shard-id {shard_id} of --num-shards {num_shards} gets no batch: the text makes fewer".format(
                    **kwargs
                )
            )
        return CountingIterator(itertools.chain([first], batches), start=0, total=len(batches))
