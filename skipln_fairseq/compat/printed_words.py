"""``fairseq-interactive`` reads a word that it has printed as what the model makes of it.

With ``--remove-bpe`` fairseq puts every word that it joins for print into the dictionary. A language model reads by
the same one: the word, typed in later, gets a number that no embedding has.
"""

from typing import Any

from fairseq.tasks import FairseqTask
from torch import Tensor

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Know the words that were there before the first line was read; ``fairseq-interactive`` alone calls this."""

    @around(FairseqTask, "get_interactive_tokens_and_lengths")
    def get_interactive_tokens_and_lengths(
        stock, task: FairseqTask, *args: Any, **kwargs: Any
    ) -> tuple[list[Tensor], list[int]]:
        words = task.source_dictionary
        known = vars(task).setdefault("words_of_the_model", len(words))
        lines, lengths = stock(task, *args, **kwargs)
        return [line.masked_fill(line >= known, words.unk()) for line in lines], lengths
