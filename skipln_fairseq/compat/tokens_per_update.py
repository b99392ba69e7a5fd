"""torchrun does not go on with another number of processes and other tokens in an update.

Where ``torchrun --nnodes 1:2`` loses a node, it starts the same command line on the other one. Without this the
learning rate meets half the tokens from then on, and nobody is told.
"""

import logging
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around
from skipln_fairseq.compat.restore_file import LAST

__all__ = ["apply", "check"]

# A recipe keeps its tokens as near as whole batches can be, which may be so far away.
NEAR = (3 / 4, 4 / 3)

logger = logging.getLogger(__name__)


def apply() -> None:
    """Compare before ``fairseq-train`` loads what it goes on from, unless ``--restore-file`` names that."""

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        if "TORCHELASTIC_RUN_ID" in os.environ and isinstance(trainer, Trainer) and cfg.restore_file == LAST:
            last = Path(cfg.save_dir, LAST)
            if last.is_file() and not cfg.reset_optimizer:
                check(last, trainer.cfg)
        return stock(cfg, trainer, **kwargs)


def check(last: Path, now: Any) -> None:
    """Refuse other tokens in an update than the checkpoint's, with another number of processes.

    Raises:
        UserError: they differ by more than what whole batches can be off.
    """
    try:
        before = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["cfg"]
        then, processes = _tokens(before), before["distributed_training"]["distributed_world_size"]
    except (OSError, RuntimeError, LookupError, TypeError, UnpicklingError):
        return  # it is told when it is loaded, or is of an old fairseq that does not say
    count = now["distributed_training"]["distributed_world_size"]
    tokens = _tokens(now)
    if processes == count or then is None or tokens is None or then == tokens:
        return
    told = f"an update had {then} with {processes} processes and has {tokens} with {count}"
    if NEAR[0] <= tokens / then <= NEAR[1]:
        logger.warning(f"tokens or sentences: {told}")
        return
    frequency = now["optimization"]["update_freq"][0] * then / tokens
    raise UserError(
        f"tokens or sentences: {told}: give --update-freq {max(1, round(frequency))}, "
        f"or --restore-file {last} to go on with other updates"
    )


def _tokens(cfg: Any) -> int | None:
    """At most so many are in an update, sentences where no tokens are limited; None if that changes on the way."""
    frequencies, data = cfg["optimization"]["update_freq"], cfg["dataset"]
    batch = data["max_tokens"] or data["batch_size"]
    if len(frequencies) != 1 or not batch:
        return None
    return cfg["distributed_training"]["distributed_world_size"] * frequencies[0] * batch
