"""Random sentences of given lengths, put into batches by fairseq as for training."""

import random

import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset, data_utils
from torch import Tensor

from ..common.errors import UserError
from .lengths import Pairs

__all__ = ["MULTIPLE", "batches", "corpus", "draw"]

MULTIPLE = 8
"""fairseq's ``--required-batch-size-multiple`` unless told otherwise."""


def _sentences(lengths: np.ndarray, dictionary: Dictionary, generator: torch.Generator) -> list[Tensor]:
    words = torch.randint(dictionary.nspecial, len(dictionary), (int(lengths.sum()),), generator=generator)
    words[torch.from_numpy(lengths).cumsum(0) - 1] = dictionary.eos()
    return list(words.split(lengths.tolist()))


def corpus(lengths: Pairs, dictionary: Dictionary, seed: int) -> LanguagePairDataset:
    """A corpus whose sentences have these lengths: independent uniform words, then the end of sentence."""
    generator = torch.Generator().manual_seed(seed)
    source, target = (_sentences(side, dictionary, generator) for side in lengths.T)
    return LanguagePairDataset(
        source, lengths[:, 0], dictionary, target, lengths[:, 1], dictionary, shuffle=True
    )


def batches(data: LanguagePairDataset, max_tokens: int, seed: int) -> list[list[int]]:
    """An epoch: every sentence once, its batches in the order in which a training takes them.

    Args:
        data: the corpus.
        max_tokens: of a batch, padding included, on each side.
        seed: of the order.

    Raises:
        UserError: where a sentence is longer than a batch may be.
    """
    longest = int(max(data.src_sizes.max(), data.tgt_sizes.max()))
    if longest > max_tokens:
        raise UserError(f"--max-tokens {max_tokens}: the longest sentence has {longest}")
    with data_utils.numpy_seed(seed):
        order = data.ordered_indices()
    epoch = data.batch_by_size(order, max_tokens=max_tokens, required_batch_size_multiple=MULTIPLE)
    epoch = [list(map(int, batch)) for batch in epoch]
    random.Random(seed).shuffle(epoch)
    return epoch


def draw(data: LanguagePairDataset, max_tokens: int, seed: int, count: int, rank: int, processes: int):
    """The first batches of an epoch, as fairseq's samples; of several processes each has its own.

    Raises:
        UserError: where the epoch has fewer.
    """
    epoch = batches(data, max_tokens, seed)
    if len(epoch) < count * processes:
        raise UserError(f"--batches {count}: the data have {len(epoch) // processes} for each process")
    mine = epoch[rank::processes][:count]
    return [data.collater([data[index] for index in batch]) for batch in mine]
