"""The readings as a CSV file and as a table in the terminal."""

import csv
from collections.abc import Iterable, Sequence
from itertools import groupby
from math import isfinite, isnan, nan
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .subject import Measured
from .watch import QUANTITIES

__all__ = ["COLUMNS", "not_finite", "table", "write_csv", "write_weights"]

VALUES = (*QUANTITIES, "fc2_gradient_norm")
ONE_MODEL = {
    "activation_norm": "output",
    "gradient_norm": "gradient",
    "coefficient_ratio": "x:F coeff.",
    "term_ratio": "x:F norms",
    "fc2_gradient_norm": "fc2",
}
STYLE = {"title_justify": "left", "box": SIMPLE_HEAD, "pad_edge": False}
COLUMNS = (
    *("variant", "flags", "encoder_layers", "decoder_layers", "seed"),
    *("side", "layer", "sub_layer", "position", *VALUES),
)


def write_csv(measured: Sequence[Measured], file: Path) -> None:
    """One line a sub-layer, in the order of ``position``, which counts from 1; what a sub-layer does not have
    is empty."""
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for one in measured:
            for position, reading in enumerate(one.readings, 1):
                values = (getattr(reading, name) for name in VALUES)
                written = ("" if value is None else repr(value) for value in values)
                of_model = (one.variant, one.flags, *one.layers, one.seed)
                writer.writerow((*of_model, *reading.place, position, *written))


def write_weights(measured: Sequence[Measured], file: Path) -> None:
    """One line for each weight of DLCL or DenseFormer. ``reader`` counts the places that mix, the last one the stack's
    end; ``read`` is 0 for the embedding and else the block whose output is read.
    """
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(("variant", "flags", "seed", "side", "reader", "read", "weight"))
        for one in measured:
            for side, matrix in one.matrices.items():
                for reader, row in enumerate(matrix, 1):
                    for read, weight in enumerate(row):
                        writer.writerow((one.variant, one.flags, one.seed, side, reader, read, repr(weight)))


def _median(values: Iterable[float | None]) -> float | None:
    """nan where one of the values is."""
    known = [value for value in values if value is not None]
    if any(map(isnan, known)):
        return nan
    return median(known) if known else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _span(values: Sequence[float | None]) -> str:
    """From the smallest to the greatest, of which one that is no number counts as the greatest."""
    known = sorted((value for value in values if value is not None), key=lambda value: (isnan(value), value))
    if not known:
        return ""
    low, high = _number(known[0]), _number(known[-1])
    return low if low == high else f"{low} … {high}"


def not_finite(measured: Sequence[Measured]) -> list[str]:
    """A line for each variant and depth whose gradients or activations are not finite: the figure leaves these out."""
    lines = []
    for group in _groups(measured):
        for quantity, name in (("gradient_norm", "gradient"), ("activation_norm", "activation")):
            values = _column(group, quantity)
            bad = sum(value is not None and not isfinite(value) for value in values)
            if bad:
                model = f"{group[0].variant}, {_layers(group[0])} layers"
                lines.append(f"{model}: the {name} is not finite at {bad} of {len(values)} sub-layers")
    return lines


def _groups(measured: Sequence[Measured]) -> list[list[Measured]]:
    return [list(same) for _, same in groupby(measured, lambda one: (one.variant, one.layers))]


def _column(group: Sequence[Measured], quantity: str) -> list[float | None]:
    """A quantity of each sub-layer, the median over seeds."""
    rows = zip(*(one.readings for one in group), strict=True)
    return [_median(getattr(reading, quantity) for reading in row) for row in rows]


def _layers(one: Measured) -> str:
    return "+".join(str(layers) for layers in one.layers if layers)


def _of_models(groups: Sequence[Sequence[Measured]]) -> Table:
    found = Table(
        title="Smallest and greatest of all sub-layers, medians over seeds",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    found.add_column("variant")
    for heading in (
        "layers",
        "last fc2",
        "gradient",
        "activation",
        "x:F coeff.",
        "x:F norms",
    ):
        found.add_column(heading, justify="right")
    for group in groups:
        spans = (
            _span(_column(group, name))
            for name in ("gradient_norm", "activation_norm", "coefficient_ratio", "term_ratio")
        )
        fc2 = _number(_median(one.last_fc2_gradient for one in group))
        found.add_row(group[0].variant, _layers(group[0]), fc2, *spans)
    return found


def _of_one_model(group: Sequence[Measured]) -> Table:
    found = Table(
        title=f"{group[0].variant}, {_layers(group[0])} layers",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    found.add_column("sub-layer", no_wrap=True)
    for heading in ONE_MODEL.values():
        found.add_column(heading, justify="right")
    columns = [_column(group, name) for name in ONE_MODEL]
    for reading, *values in zip(group[0].readings, *columns, strict=True):
        found.add_row(str(reading.place), *map(_number, values))
    return found


def table(measured: Sequence[Measured]) -> Table:
    """One row a variant and depth, or for a single model one row a sub-layer; medians over the seeds."""
    groups = _groups(measured)
    return _of_one_model(groups[0]) if len(groups) == 1 else _of_models(groups)
