"""A training that has made ``--max-update`` updates makes no more when it is started again.

fairseq counts after an update only, so that each further start makes one: a run that was killed as it ended, and its
like that was not, end with other parameters.
"""

import math
from types import ModuleType
from typing import Any

from skipln_fairseq.compat.patch import around, command

__all__ = ["apply"]


def apply() -> None:
    """Count before ``fairseq-train`` begins an epoch, or goes on with one."""
    for module in command("fairseq_cli.train"):
        _count_before(module)


def _count_before(module: ModuleType) -> None:
    @around(module, "train")
    def train(stock, cfg: Any, trainer: Any, *args: Any) -> tuple[list[float | None], bool]:
        if trainer.get_num_updates() >= (cfg.optimization.max_update or math.inf):
            return [None], True
        return stock(cfg, trainer, *args)
