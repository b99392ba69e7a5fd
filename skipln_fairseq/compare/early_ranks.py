"""How the variants ranked by validation loss after fewer updates.

Whoever tunes or compares on short runs relies on that order. It is read off the learning curves: after U updates a
variant stands where its lowest validation loss until U puts it. With a learning-rate schedule that does not depend on
the length (``inverse_sqrt``, ``fixed``) these are the ranks of trainings of U updates with the same flags.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from .curves import Curve

__all__ = ["early_ranks"]

HALVINGS = 5


def early_ranks(
    curves: Mapping[str, Sequence[Curve]], tried: Mapping[str, Mapping[str, Curve]]
) -> dict[str, Any] | None:
    """The ranks after the whole length, a half of it, a quarter and so on.

    Args:
        curves: for each variant those of its seeds.
        tried: for each variant those of the tuned flag's values; empty without tuning.

    Returns:
        ``updates``, ascending, from the first at which every run was validated; ``ranks`` for each variant, 1 for the
        lowest mean over the seeds, None where a seed has no finite loss; ``chosen`` for each variant, the value that
        tuning would have chosen then, or None; ``tau``, Kendall's τ-b (Kendall 1945) between each order and the last
        one, of the variants that have a rank in both, None where these are fewer than two or all equal.
        None where fewer than two variants have curves, or not every run was validated by half of the length.
    """
    curves = {variant: of_seeds for variant, of_seeds in curves.items() if any(of_seeds)}
    if len(curves) < 2:
        return None
    of_runs = [curve for of_seeds in curves.values() for curve in of_seeds if curve]
    first, end = max(curve[0][0] for curve in of_runs), max(curve[-1][0] for curve in of_runs)
    updates = [end >> k for k in reversed(range(HALVINGS + 1)) if end >> k >= first]
    if len(updates) < 2:
        return None
    losses = {
        variant: [statistics.fmean(_lowest(curve, update) for curve in of_seeds) for update in updates]
        for variant, of_seeds in curves.items()
    }
    columns = [[losses[variant][column] for variant in curves] for column in range(len(updates))]
    ranks = [stats.rankdata(column, method="min") for column in columns]
    return {
        "updates": updates,
        "ranks": {
            variant: [
                int(of_update[row]) if math.isfinite(loss) else None
                for of_update, loss in zip(ranks, losses[variant], strict=True)
            ]
            for row, variant in enumerate(curves)
        },
        "chosen": {
            variant: [_best_value(of_values, update) for update in updates]
            for variant, of_values in tried.items()
            if variant in curves
        },
        "tau": [_tau(column, columns[-1]) for column in columns],
    }


def _lowest(curve: Curve, update: int) -> float:
    return min((loss for at, loss in curve if at <= update), default=math.inf)


def _best_value(of_values: Mapping[str, Curve], update: int) -> str | None:
    losses = {value: _lowest(curve, update) for value, curve in of_values.items()}
    best = min(losses, key=losses.__getitem__, default=None)
    return best if best is not None and math.isfinite(losses[best]) else None


def _tau(losses: Sequence[float], last: Sequence[float]) -> float | None:
    both = [pair for pair in zip(losses, last, strict=True) if all(map(math.isfinite, pair))]
    if len(both) < 2:
        return None
    tau = float(stats.kendalltau(*zip(*both, strict=True)).statistic)
    return tau if math.isfinite(tau) else None
