"""``--restore-file`` names a checkpoint that is there.

Without it a training from a missing one silently begins anew.
"""

import os
from typing import Any

from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["LAST", "apply"]

LAST = "checkpoint_last.pt"  # the flag's default, which means the one in --save-dir: a first start has none


def apply() -> None:
    """Look for it where ``checkpoint_utils.load_checkpoint``, which ``fairseq-train`` calls once, will."""

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        if cfg.finetune_from_model:  # which fairseq refuses beside it
            return stock(cfg, trainer, **kwargs)
        suffix = trainer.checkpoint_suffix or ""
        file = cfg.restore_file.replace(".pt", f"{suffix}.pt")
        if cfg.restore_file != LAST and not PathManager.isfile(file):
            last = os.path.join(cfg.save_dir, LAST.replace(".pt", f"{suffix}.pt"))
            if os.path.realpath(file) != os.path.realpath(last):
                raise UserError(
                    f"--restore-file {file}: no such file; a relative path begins in the working directory"
                )
        return stock(cfg, trainer, **kwargs)
