"""Learning curves: validation loss over updates, a line for each variant and its seeds' range as a band."""

import io
import statistics
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

__all__ = ["draw_curves"]

LINES = ("-", "--", ":", "-.")

Curve = Sequence[tuple[int, float]]


def draw_curves(curves: Mapping[str, Sequence[Curve]]) -> str:
    """An SVG picture of the mean over the seeds' curves, at updates that all of them have."""
    colours = matplotlib.colormaps["tab10"].colors
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (variant, of_seeds) in enumerate(curves.items()):
        losses = [dict(curve) for curve in of_seeds if curve]
        if not losses:
            continue
        updates = sorted(set.intersection(*map(set, losses)))
        values = [[of_seed[update] for of_seed in losses] for update in updates]
        style = {
            "color": colours[number % len(colours)],
            "linestyle": LINES[number // len(colours) % len(LINES)],
        }
        axes.plot(updates, [statistics.fmean(each) for each in values], label=variant, linewidth=1.2, **style)
        axes.fill_between(
            updates, list(map(min, values)), list(map(max, values)), color=style["color"], alpha=0.15
        )
    axes.set(xlabel="updates", ylabel="validation loss, bits per token")
    axes.grid(alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside right upper", frameon=False)
    picture = io.StringIO()
    # without these a picture of the same numbers is another file each time
    with matplotlib.rc_context({"svg.hashsalt": "skipln_fairseq"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()
