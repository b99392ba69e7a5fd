"""``--no-repeat-ngram-size`` blocks what it says.

fairseq reads the newest n − 1 words from the end of its table, where in all but the last step only padding stands, so
that nothing is ever blocked.
"""

import math

import torch
from fairseq import sequence_generator
from fairseq.ngram_repeat_block import NGramRepeatBlock
from torch import Tensor

__all__ = ["BlockRepeatedNGrams", "apply"]


class BlockRepeatedNGrams(NGramRepeatBlock):
    """Gives −∞ to every word that would end an n-gram which the hypothesis already has.

    TorchScript can compile it, as fairseq's.
    """

    def _no_repeat_ngram(self, tokens: Tensor, lprobs: Tensor, bsz: int, beam_size: int, step: int) -> Tensor:
        """Change ``lprobs`` in place.

        Args:
            tokens: (rows, positions), of which the first is the start symbol and the next ``step`` are written.
            lprobs: (rows, words).
            bsz, beam_size: unused; the rows are their product.
            step: how many words are written.
        """
        size = self.no_repeat_ngram_size
        if step < size:
            return lprobs
        written = tokens[:, 1 : step + 1]
        ngrams = written.unfold(1, size, 1)  # (rows, step - size + 1, size)
        newest = written[:, step - size + 1 :]  # (rows, size - 1)
        repeated = (ngrams[:, :, : size - 1] == newest.unsqueeze(1)).all(dim=2)
        found = torch.nonzero(repeated)
        rows, places = found[:, 0], found[:, 1]
        lprobs[rows, ngrams[rows, places, size - 1]] = -math.inf
        return lprobs


def apply() -> None:
    """Let generators build this one."""
    sequence_generator.NGramRepeatBlock = BlockRepeatedNGrams
