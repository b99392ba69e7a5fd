"""``--save-interval-updates`` keeps its checkpoint also where the update ends an epoch.

fairseq names that one after the epoch alone, so that an average over updates goes without it.
"""

import os
import re
from typing import Any

from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Copy what was saved under the update's name too, and keep as many as were asked for."""

    @around(checkpoint_utils, "save_checkpoint")
    def save_checkpoint(stock, cfg: Any, trainer: Any, epoch_itr: Any, val_loss: float | None) -> Any:
        saved = stock(cfg, trainer, epoch_itr, val_loss)
        updates, interval = trainer.get_num_updates(), cfg.save_interval_updates
        if saved and epoch_itr.end_of_epoch() and interval > 0 and updates % interval == 0:
            name = f"checkpoint_{epoch_itr.epoch}_{updates}{trainer.checkpoint_suffix}.pt"
            PathManager.copy(saved, os.path.join(cfg.save_dir, name), overwrite=True)
            _remove_old(cfg, trainer.checkpoint_suffix)
        return saved


def _remove_old(cfg: Any, suffix: str) -> None:
    """As fairseq does within an epoch (``--keep-interval-updates``, ``--keep-interval-updates-pattern``)."""
    if cfg.keep_interval_updates <= 0:
        return
    kept_for_good = cfg.keep_interval_updates_pattern
    newest_first = checkpoint_utils.checkpoint_paths(
        cfg.save_dir, pattern=rf"checkpoint_\d+_(\d+){re.escape(suffix)}\.pt", keep_match=True
    )
    passing = [path for path, update in newest_first if kept_for_good == -1 or update % kept_for_good]
    for path in passing[cfg.keep_interval_updates :]:
        PathManager.rm(path)
