"""A resumed run sees the batches that the uninterrupted run would have seen.

fairseq groups sentences into batches once, with random numbers of the epoch in which the process started,
and keeps the batches for all epochs. A run that is resumed in its third epoch so gets others: its losses
differ, and in the midst of an epoch some sentences come twice and some not at all.
"""

from typing import Any

from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.tasks import FairseqTask

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Group the sentences as in the first epoch, wherever fairseq would keep its batches to the end."""

    @around(FairseqTask, "get_batch_iterator")
    def get_batch_iterator(
        stock, self: FairseqTask, dataset: FairseqDataset, *args: Any, epoch: int = 1, **kwargs: Any
    ) -> EpochBatchIterator:
        regrouped = kwargs.get("disable_iterator_cache") or kwargs.get("update_epoch_batch_itr")
        made_already = dataset in self.dataset_to_epoch_iter
        if regrouped or made_already or not self.can_reuse_epoch_itr(dataset):
            return stock(self, dataset, *args, epoch=epoch, **kwargs)
        iterator = stock(self, dataset, *args, epoch=1, **kwargs)
        iterator.epoch = epoch
        dataset.set_epoch(epoch)
        return iterator
