"""A training that gets SIGUSR1 saves after the update that it is in, and ends; started again, it goes on there.

Slurm sends such a signal before a time limit, and before another job takes the nodes (``--signal``). Without this it
kills the training, and what was learnt since the last checkpoint is lost.
"""

import signal
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around, command

__all__ = ["apply"]

asked = threading.Event()  # this process has got the signal


def apply() -> None:
    """Listen as soon as ``fairseq-train`` begins; and in each of its processes, where it starts one for each GPU."""

    @around(distributed_utils, "call_main")
    def call_main(stock, cfg: FairseqConfig, main: Callable[..., Any], **kwargs: Any) -> None:
        if cfg.model is not None:
            _listen()
        stock(cfg, main, **kwargs)

    _tell_all_workers()
    _note_what_is_saved()
    for module in command("fairseq_cli.train"):
        _look_after_each_update(module)


def _listen() -> None:
    """Note the signal instead of dying of it, unless the user's own code has something else in mind with it."""
    default = (signal.SIG_DFL, signal.SIG_IGN)  # the latter in commands that a tool of this package runs
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGUSR1) in default:
        signal.signal(signal.SIGUSR1, lambda *_: asked.set())


def _tell_all_workers() -> None:
    """With each update, all of them learn whether one has got the signal, by what fairseq sums up anyway: they must
    end after the same update.
    """

    @around(Trainer, "_aggregate_logging_outputs")
    def _aggregate_logging_outputs(
        stock, self: Trainer, logging_outputs: Any, *sums: Any, ignore: bool = False
    ) -> Any:
        outputs, (*totals, told) = stock(self, logging_outputs, *sums, float(asked.is_set()), ignore=ignore)
        self.told_to_end = told > 0
        return outputs, totals


def _note_what_is_saved() -> None:
    @around(checkpoint_utils, "save_checkpoint")
    def save_checkpoint(stock, cfg: Any, trainer: Trainer, epoch_itr: Any, val_loss: float | None) -> Any:
        trainer.saved_after = trainer.get_num_updates()
        return stock(cfg, trainer, epoch_itr, val_loss)


def _look_after_each_update(module: ModuleType) -> None:
    @around(module, "train")
    def train(stock, *args: Any) -> Any:
        _listen()
        return stock(*args)

    @around(module, "validate_and_save")
    def validate_and_save(stock, cfg: Any, trainer: Trainer, task: Any, epoch_itr: Any, *args: Any) -> Any:
        losses, should_stop = stock(cfg, trainer, task, epoch_itr, *args)
        alone = trainer.data_parallel_world_size == 1
        if (asked.is_set() if alone else getattr(trainer, "told_to_end", False)) and not should_stop:
            _save(cfg.checkpoint, trainer, epoch_itr)
            raise UserError(_how_it_ends(cfg.checkpoint, trainer.get_num_updates()))
        return losses, should_stop


def _save(cfg: Any, trainer: Trainer, epoch_itr: Any) -> None:
    """Save, without validation, for which there may be no time; not twice where it was time to save anyway."""
    if getattr(trainer, "saved_after", None) != trainer.get_num_updates():
        checkpoint_utils.save_checkpoint(cfg, trainer, epoch_itr, None)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # a launcher ends all processes as soon as one has ended


def _how_it_ends(cfg: Any, updates: int) -> str:
    how = "which are saved: started again, it goes on"
    if cfg.no_save or cfg.no_last_checkpoints:
        how = "which are not saved, by --no-save or --no-last-checkpoints"
    return f"ended by SIGUSR1 after {updates} updates, {how}"
