"""What shorter trainings would have found: the order of the variants by validation loss after fewer updates.

Whoever tunes or compares on short runs relies on that order. It is read off the learning curves: after U updates a
variant stands where the lowest validation loss until U puts it. That is what a training of U updates would have found
if its learning-rate schedule does not depend on the length (``inverse_sqrt``, ``fixed``).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from .curves import Curve

__all__ = ["earlier"]

HALVINGS = 5


def earlier(
    curves: Mapping[str, Sequence[Curve]], tried: Mapping[str, Mapping[str, Curve]]
) -> dict[str, Any] | None:
    """The order after the whole length, a half of it, a quarter and so on.

    Args:
        curves: for each variant those of its seeds.
        tried: for each variant those of the tuned flag's values; empty without tuning.

    Returns:
        ``updates``, ascending; ``ranks`` for each variant, 1 for the lowest mean over the seeds, None while a seed has
        no finite loss; ``chosen`` for each variant, the value that tuning would have chosen, None likewise; ``tau``,
        Kendall's τ-b between the order and that of the last column (Kendall 1945), None where all are equal.
        None if there is nothing to compare: fewer than two variants with curves, or none was validated before the last
        of these.
    """
    curves = {variant: of_seeds for variant, of_seeds in curves.items() if any(of_seeds)}
    ends = [update for of_seeds in curves.values() for curve in of_seeds for update, _ in curve]
    if len(curves) < 2:
        return None
    first = max(min(curve[0][0] for curve in of_seeds if curve) for of_seeds in curves.values())
    updates = [update for k in reversed(range(HALVINGS + 1)) if (update := max(ends) >> k) >= first]
    if len(updates) < 2:
        return None
    losses = {
        variant: [statistics.fmean(_until(curve, update) for curve in of_seeds) for update in updates]
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
            variant: [_lowest(of_values, update) for update in updates]
            for variant, of_values in tried.items()
            if variant in curves
        },
        "tau": [_tau(column, ranks[-1]) for column in ranks],
    }


def _until(curve: Curve, update: int) -> float:
    return min((loss for at, loss in curve if at <= update), default=math.inf)


def _lowest(of_values: Mapping[str, Curve], update: int) -> str | None:
    losses = {value: _until(curve, update) for value, curve in of_values.items()}
    best = min(losses, key=losses.__getitem__, default=None)
    return best if best is not None and math.isfinite(losses[best]) else None


def _tau(ranks: Sequence[int], last: Sequence[int]) -> float | None:
    tau = float(stats.kendalltau(ranks, last).statistic)
    return tau if math.isfinite(tau) else None
