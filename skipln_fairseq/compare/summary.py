"""All that a report shows, as numbers and text."""

import math
import random
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .cell import Cell
from .curves import Curve
from .data import Data
from .early_ranks import early_ranks
from .experiment import Experiment
from .significance import (
    FAILED,
    LEARNT,
    LEVEL,
    Error,
    Spread,
    detectable,
    holm,
    of_both,
    over_examples,
    over_seeds,
    pooled,
)

__all__ = ["summarise"]

SAMPLE_SEED = 1


def summarise(experiment: Experiment, samples: int) -> dict[str, Any]:
    """For each data set its rows, a variant each, its curves, so many samples, its commands and what is missing."""
    grid = experiment.grid
    return {
        "title": grid.title,
        "baseline": grid.baseline,
        "seeds": list(grid.seeds),
        "score": grid.measure.score,
        "further": list(grid.measure.further),
        "unit": grid.measure.unit,
        "tuned": None if grid.tune is None else asdict(grid.tune) | {"values": [*map(str, grid.tune.values)]},
        "data": [_table(experiment, data, samples) for data in grid.data],
    }


def _table(experiment: Experiment, data: Data, samples: int) -> dict[str, Any]:
    grid = experiment.grid
    cells = {variant: _finished(experiment, data, variant) for variant in grid.variants}
    rows = {variant: _row(grid.measure, cells[variant]) for variant in grid.variants}
    family = len(rows) - 1
    for row in rows.values():
        row["failed"] = _failed(row, rows[grid.baseline]["mean"])
    pool = pooled(row["each"] for row in rows.values() if not row["failed"])
    errors = _compare(rows, cells, grid.baseline, pool)
    for variant, row in rows.items():
        row["falling"] = [seed for seed, cell in cells[variant].items() if cell.training.still_falling()]
        if grid.tune is not None:
            losses = experiment.losses(data, variant).items()
            row["losses"] = {str(value): loss if math.isfinite(loss) else None for value, loss in losses}
            row["chosen"] = experiment.chosen(data, variant)
            row["at_edge"] = _at_edge(row["chosen"], grid.tune.values)
    curves = {variant: [cell.training.curve() for cell in of.values()] for variant, of in cells.items()}
    tried = {variant: _tuning_curves(experiment, data, variant) for variant in (rows if grid.tune else ())}
    missing = [
        f"{variant}, seed {seed}" for variant in rows for seed in grid.seeds if seed not in cells[variant]
    ]
    return {
        "name": data.name,
        "rows": rows,
        "family": family,
        "pool": asdict(pool) if pool else None,
        "detectable": _detectable(errors, pool, len(grid.seeds), family),
        "signatures": _signatures(cells),
        "missing": missing,
        "gpu": any(row["gpu_peak_gib"] for row in rows.values()),
        "curves": curves,
        "tuning_curves": tried,
        "early_ranks": early_ranks(curves, tried),
        "samples": _samples(cells, grid.seeds[0], samples),
        "commands": _commands(experiment, data, cells),
        "where": _where(cells),
    }


def _finished(experiment: Experiment, data: Data, variant: str) -> dict[int, Cell]:
    cells = {seed: experiment.cell(data, variant, seed) for seed in experiment.grid.seeds}
    return {seed: cell for seed, cell in cells.items() if cell is not None and cell.result() is not None}


def _tuning_curves(experiment: Experiment, data: Data, variant: str) -> dict[str, Curve]:
    """The curves of the tuned flag's values, of those that have ended."""
    trainings = experiment.candidates(data, variant).items()
    return {str(value): training.curve() for value, training in trainings if training.result() is not None}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "each": list(values),
    }


def _row(measure: type[Cell], cells: dict[int, Cell]) -> dict[str, Any]:
    trainings = [cell.training.result() for cell in cells.values()]
    scores = [cell.result()["scores"] for cell in cells.values()]
    losses = [t["best_loss"] for t in trainings]
    values = [score[measure.score] for score in scores]
    row = {
        "seeds": list(cells),
        "diverged_each": [t["diverged"] for t in trainings],
        **_spread(values),
        "further": {name: _spread([score[name] for score in scores]) for name in measure.further},
    }
    row["loss"] = statistics.fmean(losses) if losses and None not in losses else None
    row["parameters"] = next((t["parameters"] for t in trainings), None)
    for name, over in (("tokens_per_second", statistics.median), ("peak_bytes", max), ("gpu_peak_gib", max)):
        values = [t[name] for t in trainings if t.get(name) is not None]
        row[name] = over(values) if values else None
    return row


def _failed(row: dict[str, Any], baseline: float | None) -> int:
    """How many runs have failed, see :mod:`.significance`."""
    low = 0 if baseline is None or baseline < LEARNT else FAILED * baseline
    runs = zip(row["diverged_each"], row["each"], strict=True)
    return sum(diverged or score < low for diverged, score in runs)


def _compare(
    rows: dict[str, dict[str, Any]], cells: dict[str, dict[int, Cell]], baseline: str, pool: Spread | None
) -> list[Error]:
    """Write the differences to the baseline into ``rows``, over the seeds that both have; gives the errors over
    examples of those that have not failed."""
    ps, errors = {}, []
    for variant, row in rows.items():
        shared = [seed for seed in cells[variant] if seed in cells[baseline]]
        row |= dict.fromkeys(("difference", "p_examples", "p_seeds", "p", "p_corrected"))
        row["verdict"] = "" if variant == baseline else "missing"
        if variant == baseline or not shared:
            continue
        mine, theirs = ([cells[name][seed] for seed in shared] for name in (variant, baseline))
        scores = [[cell.result()["scores"][cell.score] for cell in side] for side in (theirs, mine)]
        difference = row["difference"] = statistics.fmean(scores[1]) - statistics.fmean(scores[0])
        sums = (sum(cell.statistics() for cell in side) for side in (theirs, mine))
        row["p_examples"], by_examples = over_examples(*sums, mine[0].scored)
        failed = row["failed"] or rows[baseline]["failed"]
        by_seeds = over_seeds(*scores, None if failed else pool)
        row["verdict"] = "one seed: not tested"
        if by_seeds is not None:
            row["p_seeds"] = by_seeds.p(difference)
            ps[variant] = row["p"] = of_both(by_seeds, by_examples, difference)
        errors += [] if failed else [by_examples]
    # what is missing counts: the family is the grid's, whenever the report is written
    family = {variant: ps.get(variant, 1.0) for variant in rows if variant != baseline}
    for variant, p in holm(family).items():
        if variant in ps:
            rows[variant]["p_corrected"] = p
            rows[variant]["verdict"] = _verdict(p, rows[variant]["difference"])
    return errors


def _detectable(errors: list[Error], pool: Spread | None, seeds: int, family: int) -> float | None:
    """For a variant with the median of the errors over examples; None where nothing is known to vary."""
    if pool is None or not errors:
        return None
    by_examples = sorted(errors, key=lambda error: error.variance)[len(errors) // 2]
    by_seeds = Error(2 * pool.deviation**2 / seeds, pool.freedom)
    return detectable(by_seeds, by_examples, family) if (by_seeds + by_examples).variance else None


def _at_edge(chosen: Any, values: Sequence[Any]) -> bool:
    """Whether values outside those that were tried might be better still."""
    try:  # YAML takes 1e-3 for a word, and true for no number
        numbers = {str(value): float(str(value)) for value in values}
    except ValueError:
        return False
    return chosen is not None and numbers[str(chosen)] in (min(numbers.values()), max(numbers.values()))


def _verdict(p: float, difference: float) -> str:
    if p >= LEVEL:
        return "no significant difference"
    return "better" if difference > 0 else "worse"


def _signatures(cells: dict[str, dict[int, Cell]]) -> list[str]:
    results = [cell.result() for of_variant in cells.values() for cell in of_variant.values()]
    return sorted({signature for result in results for signature in result["signatures"]})


def _where(cells: dict[str, dict[int, Cell]]) -> list[str]:
    places = (cell.training.result()["where"] for of in cells.values() for cell in of.values())
    return sorted({", ".join(f"{k} {v}" for k, v in place.items() if k != "date") for place in places})


def _samples(cells: dict[str, dict[int, Cell]], seed: int, wanted: int) -> list[dict[str, Any]]:
    """Examples drawn by a seed, not picked, and what the models of one seed make of them."""
    found = {name: of[seed] for name, of in cells.items() if seed in of}
    if not found:
        return []
    count = len(next(iter(found.values())).statistics())
    lines = sorted(random.Random(SAMPLE_SEED).sample(range(count), min(wanted, count)))
    outputs = {name: cell.samples(lines) for name, cell in found.items()}
    first = next(iter(outputs.values()))
    return [
        {
            "line": line + 1,
            **{key: sample[key] for key in ("source", "reference")},
            "outputs": {name: of[number]["output"] for name, of in outputs.items()},
        }
        for number, (line, sample) in enumerate(zip(lines, first, strict=False))
    ]


def _commands(experiment: Experiment, data: Data, cells: dict[str, dict[int, Cell]]) -> Sequence[str]:
    tuning = [
        training.command
        for variant in experiment.grid.variants
        for training in experiment.candidates(data, variant).values()
        if training.result() is not None
    ]
    cell_commands = [
        command
        for of_variant in cells.values()
        for cell in of_variant.values()
        for command in (cell.training.command, cell.command)
    ]
    return list(dict.fromkeys(map(shlex.join, (*tuning, *cell_commands))))
