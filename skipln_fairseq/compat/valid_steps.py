"""``--max-valid-steps N`` validates N batches; fairseq stops after N + 1."""

from typing import Any

from fairseq.trainer import Trainer

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Hand out no more batches than that."""

    @around(Trainer, "get_valid_iterator")
    def get_valid_iterator(stock, trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        batches = stock(trainer, *args, **kwargs)
        steps = trainer.cfg.dataset.max_valid_steps
        if steps is not None:
            _cut_short(batches, steps)
        return batches


def _cut_short(batches: Any, steps: int) -> None:
    stock = batches.next_epoch_itr

    def next_epoch_itr(*args: Any, **kwargs: Any) -> Any:
        epoch = stock(*args, **kwargs)
        epoch.take(steps)
        return epoch

    batches.next_epoch_itr = next_epoch_itr
