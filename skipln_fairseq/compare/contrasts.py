"""Differences between two variants on one data set, and their tests."""

import statistics
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .cell import Cell
from .significance import LEVEL, Error, Spread, holm, of_both, over_examples, over_seeds

__all__ = ["UNTESTED", "Pair", "compare"]

Pair = tuple[str, str]
"""A variant, and the one that it is compared with."""

UNTESTED = dict.fromkeys(("difference", "p_examples", "p_seeds", "p", "p_corrected"))
"""What is known of a difference before anything is."""


def compare(
    pairs: Iterable[Pair],
    cells: Mapping[str, Mapping[int, Cell]],
    alone: Collection[str],
    pool: Spread | None,
) -> tuple[dict[Pair, dict[str, Any]], list[Error]]:
    """Test the differences of ``pairs``, over the seeds that both variants have. Together they are a family, in which
    p is corrected by Holm's method; what is missing counts, so that the family is the grid's whenever this is asked.

    Args:
        pairs: which differences.
        cells: of each variant, by seed.
        alone: variants with a spread of their own, see :mod:`.significance`.
        pool: the seeds' spread, for pairs of the others.

    Returns:
        for each pair ``difference``, ``p_examples``, ``p_seeds``, ``p``, ``p_corrected`` and ``verdict``; the errors
        over examples of the pairs of others
    """
    found = {pair: {**UNTESTED, "verdict": "missing"} for pair in pairs}
    errors = []
    for (variant, against), row in found.items():
        shared = [seed for seed in cells[variant] if seed in cells[against]]
        if not shared:
            continue
        sides = [[cells[name][seed] for seed in shared] for name in (against, variant)]
        scores = [[cell.result()["scores"][cell.score] for cell in side] for side in sides]
        difference = row["difference"] = statistics.fmean(scores[1]) - statistics.fmean(scores[0])
        sums = (sum(cell.statistics() for cell in side) for side in sides)
        row["p_examples"], by_examples = over_examples(*sums, sides[0][0].scored)
        by_welch = variant in alone or against in alone
        errors += [] if by_welch else [by_examples]
        by_seeds = over_seeds(*scores, None if by_welch else pool)
        row["verdict"] = "one seed: not tested"
        if by_seeds is not None:
            row["p_seeds"] = by_seeds.p(difference)
            row["p"] = of_both(by_seeds, by_examples, difference)
    for pair, p in holm({pair: 1.0 if row["p"] is None else row["p"] for pair, row in found.items()}).items():
        row = found[pair]
        if row["p"] is not None:
            row |= {"p_corrected": p, "verdict": _verdict(p, row["difference"])}
    return found, errors


def _verdict(p: float, difference: float) -> str:
    if p >= LEVEL:
        return "no significant difference"
    return "better" if difference > 0 else "worse"
