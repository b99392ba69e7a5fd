"""Medians, their spread, and ratios that are paired by round."""

from collections.abc import Sequence
from math import comb
from statistics import median
from typing import NamedTuple

import numpy as np

__all__ = ["CONFIDENCE", "Spread", "interval", "quartiles", "ratio"]

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """A value in the middle, and the two that it lies between."""

    middle: float
    low: float
    high: float


def quartiles(values: Sequence[float]) -> Spread:
    """The median between the first and the third quartile, interpolated between neighbours."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Spread(middle, low, high)


def interval(values: Sequence[float]) -> Spread:
    """The median, and an interval that holds the true one with a probability of at least ``CONFIDENCE``.

    Its ends are the k-th smallest and the k-th greatest of n independent values, with the greatest k for which
    ``2 · P(B < k) ≤ 1 − CONFIDENCE``, B ~ Binomial(n, ½): no distribution is assumed. Below six values no k is
    large enough, and the ends are the smallest and the greatest.
    """
    ordered, n = sorted(values), len(values)
    k, outside = 1, 2 * 0.5**n
    while k <= n // 2 and outside + 2 * comb(n, k) * 0.5**n <= 1 - CONFIDENCE:
        outside += 2 * comb(n, k) * 0.5**n
        k += 1
    return Spread(median(ordered), ordered[k - 1], ordered[n - k])


def ratio(values: Sequence[float], reference: Sequence[float]) -> Spread:
    """The :func:`interval` of ``values / reference``, round by round, so that what slows both cancels."""
    return interval([value / base for value, base in zip(values, reference, strict=True)])
