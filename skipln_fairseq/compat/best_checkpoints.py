"""``--keep-best-checkpoints N`` keeps the N best; fairseq keeps those that were better than all before them.

Without it a run whose first epoch was its best keeps one file (fairseq issue 2195).
"""

import os
from contextvars import ContextVar
from typing import Any

from fairseq import checkpoint_utils

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

SAVING: ContextVar[tuple[Any, str] | None] = ContextVar("SAVING", default=None)


def apply() -> None:
    """While there is room, show fairseq a worst file that every score beats; it looks at no more than the name."""

    @around(checkpoint_utils, "save_checkpoint")
    def save_checkpoint(stock, cfg: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        before = SAVING.set((cfg, trainer.checkpoint_suffix))
        try:
            return stock(cfg, trainer, *args, **kwargs)
        finally:
            SAVING.reset(before)

    @around(checkpoint_utils, "checkpoint_paths")
    def checkpoint_paths(stock, path: str, *args: Any, **kwargs: Any) -> list[Any]:
        found = stock(path, *args, **kwargs)
        if SAVING.get() is None or "best_" not in kwargs.get("pattern", ""):
            return found
        cfg, suffix = SAVING.get()
        if len(found) >= cfg.keep_best_checkpoints:
            return found
        worst = os.path.join(path, "checkpoint.best_{}" + f"{suffix}.pt")
        # the largest comes first
        if cfg.maximize_best_checkpoint_metric:
            return [*found, worst.format("-inf")]
        return [worst.format("inf"), *found]
