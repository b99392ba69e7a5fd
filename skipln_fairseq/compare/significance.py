"""Whether a variant differs from the baseline: over examples, over seeds, and among many variants.

Two things could have come out otherwise: which examples are in the test set, and which seeds were drawn. Each has
its test:

* examples, which are sentences or images: sacreBLEU's paired bootstrap (Koehn 2004); where there are several seeds, a
  resample that draws an example takes its outputs of all seeds, which are no independent examples;
* seeds: a two-sided t test of the seeds' scores. Three seeds say little about their own spread, so it is pooled over
  the variants, as in an analysis of variance. A variant with a failed run has a spread of its own: it is left out of
  the pool and compared by Welch's test. A run has failed if it diverged or scored less than :data:`FAILED` of the
  baseline's mean.

That a difference would show again with other examples *and* other seeds is denied by the hypothesis that one of the
two makes it up: p is the larger of the two (an intersection-union test, which keeps the level). With one seed nothing
can be said about seeds, and there is no p. The variants of one data set against its baseline are a family, in which p
is corrected by Holm's method (1979).
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

__all__ = [
    "FAILED",
    "LEVEL",
    "POWER",
    "RESAMPLES",
    "Spread",
    "detectable",
    "holm",
    "p_of_examples",
    "p_of_seeds",
    "pooled",
]

LEVEL = 0.05
POWER = 0.8
FAILED = 0.5
RESAMPLES = 1000
SEED = 12345  # sacreBLEU's


def p_of_examples(baseline: np.ndarray, other: np.ndarray, scored: Callable[[np.ndarray], float]) -> float:
    """sacreBLEU's paired bootstrap test, of any score of sums over examples.

    Args:
        baseline, other: (examples, numbers), of the same examples; of several seeds the sums over them, so that an
            example is drawn with all its outputs.
        scored: from sums over examples to the score.

    Returns:
        the share of resamples in which the difference of scores is further from its mean than the difference found
    """
    difference = abs(scored(other.sum(0)) - scored(baseline.sum(0)))
    if difference == 0:
        return 1.0
    rng = np.random.default_rng(SEED)
    drawn = rng.choice(len(baseline), size=(RESAMPLES, len(baseline)), replace=True)
    differences = np.array(
        [abs(scored(other[each].sum(0)) - scored(baseline[each].sum(0))) for each in drawn]
    )
    further = np.sum(differences - differences.mean() > difference)
    return float(further + 1) / (RESAMPLES + 1)


@dataclass(frozen=True)
class Spread:
    """A standard deviation of a seed's score and its degrees of freedom."""

    deviation: float
    freedom: int


def pooled(systems: Iterable[Sequence[float]]) -> Spread | None:
    """The spread of seeds within ``systems``, or None if none has two."""
    spread = [scores for scores in systems if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in spread)
    squares = sum((len(scores) - 1) * statistics.variance(scores) for scores in spread)
    return Spread(math.sqrt(squares / freedom), freedom) if freedom else None


def p_of_seeds(baseline: Sequence[float], other: Sequence[float], pool: Spread | None) -> float | None:
    """The t test with the pool's spread, Welch's without one, or None where a side has fewer than two seeds."""
    if min(len(baseline), len(other)) < 2:
        return None
    difference = statistics.fmean(other) - statistics.fmean(baseline)
    if difference == 0:
        return 1.0
    if pool is None:
        if len({*baseline}) == len({*other}) == 1:  # no spread at all, where Welch's statistic is infinite
            return 0.0
        return float(stats.ttest_ind(baseline, other, equal_var=False).pvalue)
    error = pool.deviation * math.sqrt(1 / len(baseline) + 1 / len(other))
    return float(2 * stats.t.sf(abs(difference) / error, pool.freedom)) if error else 0.0


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Corrected for the size of the family: the k-th smallest of m times m − k + 1, never falling, at most 1."""
    corrected, largest = {}, 0.0
    for k, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        largest = max(largest, min(1.0, (len(ps) - k) * ps[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in ps}


def detectable(pool: Spread, seeds: int, family: int) -> float:
    """The smallest difference of means, each of ``seeds`` seeds, that the test over seeds finds with probability
    :data:`POWER`, at the level of Holm's first step, :data:`LEVEL` / ``family``.
    """
    freedom, scale = pool.freedom, pool.deviation * math.sqrt(2 / seeds)
    critical = stats.t.ppf(1 - LEVEL / family / 2, freedom)

    def missing(shift: float) -> float:
        # over the variance's distribution: scipy's noncentral t gives NaN where few seeds need a large shift
        def found(v: float) -> float:
            bar = critical * math.sqrt(v / freedom)
            return stats.norm.cdf(shift - bar) + stats.norm.cdf(-shift - bar)

        return stats.chi2(freedom).expect(found) - POWER

    return scale * optimize.brentq(missing, 0, 20 * critical)
