"""All that a report shows, as numbers and text."""

import itertools
import math
import random
import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .cell import Cell
from .contrasts import UNTESTED, compare
from .curves import Curve
from .data import Data
from .early_ranks import early_ranks
from .experiment import Experiment
from .grid import Grid, Tuning, as_number
from .significance import FAILED, LEARNT, Error, Spread, detectable, pooled, wider
from .training import Training

__all__ = ["summarise"]

SAMPLE_SEED = 1
LENGTHS = ("max-update", "max-epoch")
COSTS = {"tokens_per_second": statistics.median, "peak_bytes": max, "gpu_peak_gib": max}
"""What a training took, by the name in its record, and how it is told of several."""


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
        "tuned": None if grid.tune is None else _tuned(grid.tune),
        "data": [_table(experiment, data, samples) for data in grid.data],
    }


def _table(experiment: Experiment, data: Data, samples: int) -> dict[str, Any]:
    grid = experiment.grid
    cells = {variant: _finished(experiment, data, variant) for variant in grid.variants}
    rows = {variant: _row(grid.measure, cells[variant]) for variant in grid.variants}
    failed_below = _failed_below([row["mean"] for row in rows.values()])
    for row in rows.values():
        row["failed"] = _failed(row, failed_below)
    devices = _devices(cells)
    if len(devices) > 1:  # differences of devices would be taken for those of variants
        rows = {variant: row | dict.fromkeys(COSTS) for variant, row in rows.items()}
    wide = wider({variant: row["each"] for variant, row in rows.items() if not row["failed"]})
    alone = {variant for variant, row in rows.items() if row["failed"] or variant in wide}
    pool = pooled(rows[variant]["each"] for variant in rows if variant not in alone)
    family = [(variant, grid.baseline) for variant in rows if variant != grid.baseline]
    to_baseline, errors = compare(family, cells, alone, pool)
    contrasts, _ = compare(grid.contrasts, cells, alone, pool)
    for variant, row in rows.items():
        row |= to_baseline.get((variant, grid.baseline), {**UNTESTED, "verdict": ""})
        row["falling"] = [seed for seed, cell in cells[variant].items() if cell.training.still_falling()]
        if grid.tune is not None:
            losses = experiment.losses(data, variant).items()
            row["losses"] = {str(value): loss if math.isfinite(loss) else None for value, loss in losses}
            row["chosen"] = experiment.chosen(data, variant)
            row["at_edge"] = _at_edge(row["chosen"], grid.tune.of(variant))
    curves = {variant: [cell.training.curve() for cell in of.values()] for variant, of in cells.items()}
    tried = {variant: _tuning_curves(experiment, data, variant) for variant in (rows if grid.tune else ())}
    missing = [
        *_missing_tunings(experiment, data),
        *(f"{variant}, seed {seed}" for variant in rows for seed in grid.seeds if seed not in cells[variant]),
    ]
    return {
        "name": data.name,
        "rows": rows,
        "family": len(family),
        "failed_below": failed_below,
        "contrasts": [{"variant": pair[0], "against": pair[1], **row} for pair, row in contrasts.items()],
        "pool": asdict(pool) if pool else None,
        "wider": wide,
        "detectable": _detectable(errors, pool, len(grid.seeds), len(family)),
        "signatures": _signatures(cells),
        "missing": missing,
        "gpu": any(row["gpu_peak_gib"] for row in rows.values()),
        "curves": curves,
        "tuning_curves": tried,
        "early_ranks": early_ranks(curves, tried) if _equally_long(grid, data) else None,
        "samples": _samples(cells, grid.seeds[0], samples),
        "commands": _commands(experiment, data, cells),
        "where": _where(cells),
        "devices": devices,
    }


def _missing_tunings(experiment: Experiment, data: Data) -> Iterator[str]:
    """Without one of them a variant has no results, even if its seeds are trained."""
    for variant in experiment.grid.variants:
        for value, training in experiment.candidates(data, variant).items():
            if training.result() is None:
                yield f"{variant}, {experiment.grid.tune.flag} {value}"


def _tuned(tune: Tuning) -> dict[str, Any]:
    """The tuned flag with all values, of all variants, as words."""
    values = dict.fromkeys(map(str, itertools.chain(tune.values, *tune.also.values())))
    return {"flag": tune.flag, "values": [*values], "seed": tune.seed, "train": tune.train}


def _equally_long(grid: Grid, data: Data) -> bool:
    """Whether all variants are told to train as long. Else the same updates are another part of each training."""
    flags = [grid.flags(data, variant) for variant in grid.variants]
    lengths = {tuple(str(one.get(name)) for name in LENGTHS) for one in flags}
    return len(lengths) == 1 and (grid.tune is None or grid.tune.flag not in LENGTHS)


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


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there is none, or one is not known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


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
    row |= {"loss": _mean(losses), "loss_each": losses}
    row |= {"train_loss_each": [t["train_loss"] for t in trainings]}
    row |= {"train_loss": _mean(row["train_loss_each"]), "updates_each": [t["updates"] for t in trainings]}
    row["length_ratio"] = _mean([cell.length_ratio(cell.statistics().sum(0)) for cell in cells.values()])
    row["parameters"] = next((t["parameters"] for t in trainings), None)
    for name, over in COSTS.items():
        values = [t[name] for t in trainings if t.get(name) is not None]
        row[name] = over(values) if values else None
    return row


def _failed_below(means: Sequence[float | None]) -> float:
    """Scores below it are those of failed runs, see :mod:`.significance`."""
    highest = max((mean for mean in means if mean is not None), default=0)
    return 0 if highest < LEARNT else FAILED * highest


def _failed(row: dict[str, Any], below: float) -> int:
    """How many runs have failed."""
    runs = zip(row["diverged_each"], row["each"], strict=True)
    return sum(diverged or score < below for diverged, score in runs)


def _detectable(errors: list[Error], pool: Spread | None, seeds: int, family: int) -> float | None:
    """For a variant with the median of the errors over examples; None where nothing is known to vary."""
    if pool is None or not errors:
        return None
    by_examples = sorted(errors, key=lambda error: error.variance)[len(errors) // 2]
    by_seeds = Error(2 * pool.deviation**2 / seeds, pool.freedom)
    return detectable(by_seeds, by_examples, family) if (by_seeds + by_examples).variance else None


def _at_edge(chosen: Any, values: Sequence[Any]) -> bool:
    """Whether values outside those that were tried might be better still."""
    numbers = [as_number(value) for value in values]
    if chosen is None or any(isinstance(number, str) for number in numbers):
        return False
    return as_number(chosen) in (min(numbers), max(numbers))


def _signatures(cells: dict[str, dict[int, Cell]]) -> list[str]:
    results = [cell.result() for of_variant in cells.values() for cell in of_variant.values()]
    return sorted({signature for result in results for signature in result["signatures"]})


def _devices(cells: dict[str, dict[int, Cell]]) -> list[str]:
    """On which the models were trained, by name."""
    places = [cell.training.result().get("where", {}) for of in cells.values() for cell in of.values()]
    return sorted({place.get("device", "not recorded") for place in places})


def _where(cells: dict[str, dict[int, Cell]]) -> list[str]:
    results = [
        r for of in cells.values() for cell in of.values() for r in (cell.training.result(), cell.result())
    ]
    places = [result["where"] for result in results if "where" in result]  # once evaluations had none
    return sorted({", ".join(f"{k} {v}" for k, v in place.items() if k != "date") for place in places})


def _samples(cells: dict[str, dict[int, Cell]], seed: int, wanted: int) -> list[dict[str, Any]]:
    """Examples drawn by a seed, not picked, and what the models of one seed make of them."""
    found = {name: of[seed] for name, of in cells.items() if seed in of}
    if not (found and wanted):
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
        _command(training)
        for variant in experiment.grid.variants
        for training in experiment.candidates(data, variant).values()
        if training.result() is not None
    ]
    cell_commands = [
        command
        for of_variant in cells.values()
        for cell in of_variant.values()
        for command in (_command(cell.training), _command(cell))
    ]
    return list(dict.fromkeys((*tuning, *cell_commands)))


def _command(run: Training | Cell) -> str:
    """As it ran, perhaps in another folder."""
    return run.result().get("command") or shlex.join(run.command)
