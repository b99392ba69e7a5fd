"""A resumed run knows how long its best has been the best, and by which metric.

fairseq counts for ``--patience`` from nothing after every start (fairseq issue 3531), and compares the numbers of a new
``--best-checkpoint-metric`` with the best of the old one.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

COUNT, METRIC = "patience", "best_metric"  # beside fairseq's own "best" in a checkpoint's extra state

logger = logging.getLogger(__name__)


def apply() -> None:
    """Keep the count in the checkpoint; ``fairseq-train`` alone calls ``checkpoint_utils.load_checkpoint``."""

    @around(Trainer, "save_checkpoint")
    def save_checkpoint(stock, trainer: Trainer, filename: str, extra_state: dict[str, Any]) -> Any:
        counter = _counter()
        if hasattr(counter, "best"):
            extra_state[COUNT] = {"best": counter.best, "num_runs": counter.num_runs}
        return stock(trainer, filename, extra_state)

    @around(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(stock, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state = stock(*args, **kwargs)
        stored = (state.get("cfg") or {}).get("checkpoint")
        if isinstance(stored, Mapping) and isinstance(state.get("extra_state"), dict):
            state["extra_state"][METRIC] = _metric(stored)
        return state

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Trainer, **kwargs: Any) -> Any:
        loaded = stock(cfg, trainer, **kwargs)
        if hasattr(checkpoint_utils.save_checkpoint, "best"):  # taken from the checkpoint, and not reset
            _go_on_counting(loaded[0], _metric(cfg))
        return loaded


def _go_on_counting(extra_state: dict[str, Any], metric: tuple[str, bool]) -> None:
    saving, counter = checkpoint_utils.save_checkpoint, _counter()
    before = extra_state.get(METRIC, metric)
    if before != metric:
        logger.info(
            f"--best-checkpoint-metric was {before[0]} and is {metric[0]}: the best is looked for anew"
        )
        del saving.best
    elif counter:
        count = extra_state.get(COUNT) or {"best": saving.best, "num_runs": 0}  # older checkpoints hold none
        counter.best, counter.num_runs = count["best"], int(count["num_runs"])


def _metric(flags: Any) -> tuple[str, bool]:
    """Its name, and whether the largest is the best."""
    return flags.get("best_checkpoint_metric", "loss"), flags.get("maximize_best_checkpoint_metric", False)


def _counter() -> Callable[..., bool] | None:
    """The function of ``fairseq-train`` that counts, in its own attributes; a program of its own has none."""
    for name in ("__main__", "fairseq_cli.train"):
        if hasattr(sys.modules.get(name), "should_stop_early"):
            return sys.modules[name].should_stop_early
    return None
