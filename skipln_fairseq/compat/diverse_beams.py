"""``--diverse-beam-groups`` works on more than one batch.

fairseq's diverse beam search keeps one row for each sentence of a batch, but looks it up by the sentence's
number in the data set: an index error, or another sentence's row.
"""

from typing import Any

from fairseq.search import DiverseBeamSearch
from torch import Tensor

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Give its steps the places in the batch that they ask for."""

    @around(DiverseBeamSearch, "step")
    def step(
        stock,
        self: DiverseBeamSearch,
        step: int,
        lprobs: Tensor,
        scores: Tensor,
        prev_output_tokens: Tensor | None = None,
        original_batch_idxs: Tensor | None = None,
    ) -> Any:
        if original_batch_idxs is not None:
            if step == 0:
                self.sentences = original_batch_idxs
            original_batch_idxs = (original_batch_idxs[:, None] == self.sentences).int().argmax(dim=1)
        return stock(self, step, lprobs, scores, prev_output_tokens, original_batch_idxs)
