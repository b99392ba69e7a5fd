"""What a model is measured on: random sentences, or a batch of binarised data."""

import torch
from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask

from ..common.errors import UserError

__all__ = ["RandomTask", "data_batch", "random_batch"]


class RandomTask(FairseqTask):
    """What a model asks of a task while it is built: one dictionary for source and target, without meaning.

    Args:
        words: its size, besides fairseq's four special symbols.
    """

    def __init__(self, words: int):
        super().__init__(cfg=None)
        self.dictionary = Dictionary()
        for word in range(words):
            self.dictionary.add_symbol(f"w{word}")

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self.dictionary


def random_batch(task: FairseqTask, sentences: int, length: int, seed: int, translates: bool = True) -> dict:
    """A sample as fairseq's criteria take it: independent uniform words, every sentence of one length.

    Args:
        task: for its dictionaries.
        sentences: the batch size.
        length: words of a sentence, its end included.
        seed: of the words.
        translates: a sentence pair; otherwise a language model's text.

    Returns:
        ``net_input`` and ``target`` (sentences, length).
    """
    generator = torch.Generator().manual_seed(seed)

    def words(dictionary: Dictionary) -> torch.Tensor:
        shape = (sentences, length)
        tokens = torch.randint(dictionary.nspecial, len(dictionary), shape, generator=generator)
        tokens[:, -1] = dictionary.eos()
        return tokens

    source, target = words(task.source_dictionary), words(task.target_dictionary)
    lengths = torch.full((sentences,), length)
    net_input = {"src_tokens": source, "src_lengths": lengths}
    if translates:
        net_input["prev_output_tokens"] = target.roll(1, 1)  # the end of sentence comes first, as in fairseq
    else:
        net_input["src_tokens"] = target.roll(1, 1)
    return {
        "id": torch.arange(sentences),
        "nsentences": sentences,
        "ntokens": target.numel(),
        "net_input": net_input,
        "target": target,
    }


def data_batch(task: FairseqTask, split: str, sentences: int, seed: int) -> dict:
    """The first batch of a split of the task's data, shuffled by ``seed``.

    Raises:
        UserError: where there is no such split.
    """
    if split not in task.datasets:
        try:
            task.load_dataset(split)
        except FileNotFoundError as error:
            raise UserError(f"--split {split}: {error}") from error
    batches = task.get_batch_iterator(
        task.dataset(split),
        max_sentences=sentences,
        seed=seed,
        disable_iterator_cache=True,  # or every seed would get the first one's batches
    )
    return next(batches.next_epoch_itr(shuffle=True))
