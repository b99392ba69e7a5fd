"""Learning curves: validation loss over updates, a line for each variant and its seeds' range as a band."""

import io
import statistics
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

__all__ = ["Curve", "draw_curves"]

LINES = ("-", "--", ":", "-.")
APART = 2

Curve = Sequence[tuple[int, float]]
"""The validation loss in bits at each update that was validated, ascending."""


def draw_curves(curves: Mapping[str, Sequence[Curve]], unit: str) -> str:
    """An SVG picture of the mean over the seeds' curves, at updates that all of them have.

    A variant whose mean stays above :data:`APART` times the lowest, and above all curves that do not, does not stretch
    the axis: the legend says that it is above.
    """
    colours = matplotlib.colormaps["tab10"].colors
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    bands = {variant: _band(of_seeds) for variant, of_seeds in curves.items()}
    best = {variant: min(mean for _, mean, _ in band.values()) for variant, band in bands.items() if band}
    near = [variant for variant, loss in best.items() if loss <= APART * min(best.values())]
    inside = [each for variant in near for each in bands[variant].values()]
    bottom, top = (
        min((low for low, _, _ in inside), default=0),
        max((high for _, _, high in inside), default=0),
    )
    apart = {variant for variant, loss in best.items() if loss > max(top, APART * bottom)}
    for number, variant in enumerate(curves):
        if variant not in best:
            continue
        updates, (low, mean, high) = list(bands[variant]), zip(*bands[variant].values(), strict=True)
        style = {
            "color": colours[number % len(colours)],
            "linestyle": LINES[number // len(colours) % len(LINES)],
        }
        label = variant.replace("$", r"\$")  # or matplotlib reads a formula between two of them
        label = f" {label}" if label.startswith("_") else label  # or matplotlib leaves it out of the legend
        label += " (above)" if variant in apart else ""
        # marks and edges: a training may have been validated once
        axes.plot(updates, mean, label=label, linewidth=1.2, marker=".", **style)
        axes.fill_between(updates, low, high, color=style["color"], alpha=0.15, linewidth=1)
    if apart:
        margin = 0.05 * ((top - bottom) or top)
        axes.set_ylim(bottom - margin, top + margin)
    axes.set(xlabel="updates", ylabel=f"validation loss, bits per {unit}")
    axes.grid(alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside right upper", frameon=False)
    picture = io.StringIO()
    # without these a picture of the same numbers is another file each time
    with matplotlib.rc_context({"svg.hashsalt": "skipln_fairseq"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


def _band(of_seeds: Sequence[Curve]) -> dict[int, tuple[float, float, float]]:
    """The lowest, mean and highest loss over seeds at each update that all have."""
    losses = [dict(curve) for curve in of_seeds if curve]
    shared = sorted(set.intersection(*map(set, losses))) if losses else []
    each = {update: [of_seed[update] for of_seed in losses] for update in shared}
    return {update: (min(values), statistics.fmean(values), max(values)) for update, values in each.items()}
