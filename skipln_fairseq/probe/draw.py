"""The figure: one set of axes a panel, medians over seeds with the range around them."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .panel import MatrixPanel, Panel
from .subject import Measured

__all__ = ["draw", "save"]

# Okabe and Ito's palette, told apart with every kind of colour vision; without its yellow, too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX"
# a greatest value this many times the smallest is drawn on a logarithmic axis, which leaves out zeros
LOGARITHMIC_FROM = 20
COLUMNS = 3


def _by_variant(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for one in measured:
        found.setdefault(one.variant, []).append(one)
    return found


def _over_depths(models: Sequence[Measured]) -> tuple[list[int], list[list[float | None]]]:
    by_depth = groupby(sorted(models, key=lambda one: one.depth), lambda one: one.depth)
    depths, values = zip(*((d, [one.last_fc2_gradient for one in same]) for d, same in by_depth), strict=True)
    return list(depths), list(values)


def _over_sub_layers(
    models: Sequence[Measured], quantity: str
) -> tuple[list[float], list[list[float | None]]]:
    """Positions and values, with nothing between the stacks, since the encoder's end is not the decoder's start."""
    where: list[float] = []
    values: list[list[float | None]] = []
    for position, row in enumerate(zip(*(one.readings for one in models), strict=True), 1):
        if row[0].place == ("decoder", 0, "self_attn"):
            where.append(position - 0.5)
            values.append([None])
        where.append(position)
        values.append([getattr(reading, quantity) for reading in row])
    return where, values


def _mark_sides(axes: Axes, model: Measured) -> None:
    """A line between the stacks, and their names along the bottom."""
    encoder = sum(reading.place.side == "encoder" for reading in model.readings)
    parts = {"encoder": (1, encoder), "decoder": (encoder + 1, len(model.readings))}
    present = {side: (first, last) for side, (first, last) in parts.items() if last >= first}
    if len(present) == 2:
        axes.axvline(encoder + 0.5, color="0.6", linewidth=0.8)
    names = "   |   ".join(f"{side} {first}–{last}" for side, (first, last) in present.items())
    axes.set_xlabel(f"sub-layer:   {names}")


def _plot(axes: Axes, panel: Panel) -> None:
    everything = []
    variants = _by_variant(panel.measured)
    for number, (name, models) in enumerate(variants.items()):
        over_depths = panel.quantity is None
        where, values = _over_depths(models) if over_depths else _over_sub_layers(models, panel.quantity)
        rows = [np.array(row, dtype=float) for row in values]  # None becomes nan, a gap
        columns = np.array([(np.median(row), np.min(row), np.max(row)) for row in rows]).T
        middle, low, high = np.where(np.isfinite(columns), columns, np.nan)
        if np.isnan(middle).all():
            continue  # a quantity that this variant does not have
        dash, colour = divmod(number, panel.colours)
        colour = COLOURS[colour % len(COLOURS)]
        style = {
            "color": colour,
            "linestyle": DASHES[dash % len(DASHES)],
            "marker": MARKERS[number % len(MARKERS)],
        }
        axes.plot(where, middle, label=name, markersize=6 if over_depths else 3, linewidth=1.6, **style)
        axes.fill_between(where, low, high, color=colour, alpha=0.18, linewidth=0)
        everything += [*low, *high]
    values = np.array(everything)
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return
    if values.max() > LOGARITHMIC_FROM * values.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0, top=1.1 * values.max())


def _draw_matrix(axes: Axes, panel: MatrixPanel) -> None:
    """Squares, filled above zero and hollow below, the largest as wide as its cell."""
    largest = max(abs(weight) for row in panel.matrix for weight in row)
    for number, row in enumerate(panel.matrix):
        for column, weight in enumerate(row):
            width = 0.92 * (abs(weight) / largest) ** 0.5
            corner = (column - width / 2, number - width / 2)
            fill = COLOURS[0] if weight > 0 else "none"
            axes.add_patch(Rectangle(corner, width, width, facecolor=fill, edgecolor=COLOURS[0]))
    size = max(len(panel.matrix), *(len(row) for row in panel.matrix))
    axes.set(xlim=(-0.6, size - 0.4), ylim=(size - 0.4, -0.6), aspect="equal")
    axes.set_xlabel("reads the embedding (0) and block …")
    axes.set_ylabel("row of the matrix; the last: the stack's end")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    text = f"area: |weight|, the largest {largest:.2f}; hollow: below 0"
    axes.text(0.5, -0.2, text, transform=axes.transAxes, ha="center", va="top")


def _draw_lines(axes: Axes, panel: Panel) -> None:
    _plot(axes, panel)
    if panel.quantity is None:
        axes.set_xlabel("layers of each side")
        axes.set_xticks(sorted({one.depth for one in panel.measured}))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len({one.layers for one in panel.measured}) == 1:
            _mark_sides(axes, panel.measured[0])
        else:  # one number is not the same sub-layer in all models
            axes.set_xlabel("sub-layer")
    axes.set_ylabel(panel.ylabel)
    axes.grid(alpha=0.25)
    if axes.get_lines():
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=2 if panel.colours == 3 else 3,
            frameon=False,
        )


def draw(panels: Sequence[Panel | MatrixPanel]) -> Figure:
    """The figure of some panels, each with its legend below it, off the data."""
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.6 * columns, 5.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, panel in zip(grid, panels, strict=False):
        if isinstance(panel, MatrixPanel):
            _draw_matrix(axes, panel)
        else:
            _draw_lines(axes, panel)
        axes.set_title(panel.title)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(figure.axes)[len(panels) :]:
        axes.remove()
    return figure


def save(figure: Figure, file: Path, kind: str) -> None:
    """Write the figure as ``png`` or ``svg``, the same bytes each time."""
    with rc_context({"svg.hashsalt": "probe"}):
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
