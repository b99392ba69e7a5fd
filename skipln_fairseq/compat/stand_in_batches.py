"""A batch that stands in for one of which a data-parallel worker has none is no part of norms' statistics."""

from contextlib import nullcontext
from typing import Any

from fairseq.tasks import FairseqTask
from torch import nn

from skipln_fairseq.compat.patch import around
from skipln_fairseq.nn.norm.statistics import standing_in

__all__ = ["apply"]


def apply() -> None:
    """Tell the norms. fairseq multiplies the loss of such a batch by 0, of which a forward does not know."""

    @around(FairseqTask, "train_step")
    def train_step(
        stock: Any,
        self: FairseqTask,
        sample: Any,
        model: nn.Module,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
        **kwargs: Any,
    ) -> Any:
        with standing_in(model) if ignore_grad else nullcontext():
            return stock(self, sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs)
