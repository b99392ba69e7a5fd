"""``draw``: the figure of what ``grow`` or ``leave`` wrote."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..common.files import write_all
from .render import MEBIBYTE, header
from .report import read

__all__ = ["HELP", "add_arguments", "figure", "quantities", "run"]

HELP = "draw the figure of a report of grow or leave"

# Okabe and Ito's palette, told apart with every kind of colour vision
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "os^Dv*P"

COST = (("seconds", "seconds a round", 1), ("peak_bytes", "MiB of tensors at their peak", 1 / MEBIBYTE))
SPEED = (("tokens_per_second", "real target tokens a second", 1),)
BANDWIDTH = (
    ("forward_share", "forward: bytes a second, of a copy's", 1),
    ("backward_share", "backward: bytes a second, of a copy's", 1),
)


def quantities(report: dict[str, Any]) -> tuple[tuple[str, str, float], ...]:
    """What is drawn, a panel each: a field of the summaries, its label and its unit."""
    if report["kind"] == "leave":
        return BANDWIDTH
    return SPEED if report["axis"] in ("threads", "processes") else COST


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("file", type=Path, metavar="FILE.json", help="what grow or leave wrote")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.svg", help="default: beside the report, with .svg"
    )


def _series(report: dict[str, Any], field: str) -> dict[str, list[tuple[int, list[float]]]]:
    """Of every contestant at every shape the values of the axis, and there the field: middle, low and high."""
    found: dict[str, list[tuple[int, list[float]]]] = {}
    several = len({heat["shape"] for heat in report["heats"]}) > 1
    for heat in report["heats"]:
        for run in heat["runs"]:
            name = f"{heat['shape']} {run['series']}" if several else run["series"]
            value = run["summary"][field]
            spread = value if isinstance(value, list) else [value] * 3
            found.setdefault(name, []).append((heat["value"], spread))
    return found


def figure(report: dict[str, Any]):
    """A matplotlib figure: a panel for each quantity, a line for each contestant, quartiles as a band."""
    from matplotlib.figure import Figure

    shown = quantities(report)
    drawn = Figure(figsize=(4.2 * len(shown), 3.8), layout="constrained")
    panels = drawn.subplots(1, len(shown), squeeze=False).flat
    for axes, (field, label, unit) in zip(panels, shown, strict=True):
        for number, (name, points) in enumerate(_series(report, field).items()):
            style = {"color": COLOURS[number % len(COLOURS)]}
            where = [value for value, _ in points]
            middle, low, high = ([unit * spread[i] for _, spread in points] for i in range(3))
            axes.plot(where, middle, marker=MARKERS[number % len(MARKERS)], markersize=4, label=name, **style)
            axes.fill_between(where, low, high, alpha=0.18, linewidth=0, **style)
        axes.set_xscale("log", base=2)
        values = sorted({heat["value"] for heat in report["heats"]})
        axes.set_xticks(values, [str(value) for value in values], minor=False)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(report["axis"])
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    lines, labels = axes.get_legend_handles_labels()
    drawn.legend(lines, labels, loc="outside lower center", ncols=1 + len(shown), frameon=False)
    return drawn


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Draw."""
    report = read(args.file)
    if report["axis"] is None:
        raise UserError(f"{args.file}: nothing grows in it; a figure is made of what grow or leave writes")
    output = args.output or args.file.with_suffix(".svg")
    from matplotlib import rc_context

    drawn = figure(report)
    metadata = {"Date": None, "Description": header(report)}
    with rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none"}):
        write_all(
            output.parent,
            {output.name: lambda file: drawn.savefig(file, format="svg", metadata=metadata)},
        )
    console.print(str(output), highlight=False, soft_wrap=True)
