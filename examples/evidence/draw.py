"""Draw the scores of the evidence: a picture for each comparison, and the small one of README.md.

    python examples/evidence/draw.py docs/pictures

Every number is read from the results.json files beside this one. Bars are means over the seeds, their lines one
standard deviation.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SCORED = (
    "multi30k-recipe",
    "multi30k-connections",
    "multi30k-depth",
    "en-vi-norms",
    "cifar10-connections",
    "cifar10-mimicnorm",
)
SUMMARY = (
    ("multi30k-recipe", 0, "Multi30k, 2 layers\n13 epochs"),
    ("multi30k-connections", 0, "2 layers\n3.5 epochs"),
    ("multi30k-depth", 0, "6 layers\n3.5 epochs"),
    ("multi30k-depth", 1, "12 layers\n3.5 epochs"),
    ("multi30k-depth", 2, "24 layers\n3.5 epochs"),
    ("en-vi-norms", 0, "En–Vi subset, 2 layers\n1.2 epochs"),
)
SHOWN = {"Post-LN": "#8a8a8a", "rSkip+LN 2": "#0072B2", "Pre-LN": "#E69F00"}
VERDICTS = {"better": "#009E73", "worse": "#D55E00"}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder for the pictures")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCORED:
        _save(scores(results(name)), folder / f"{name}.svg")
    _save(summary(), folder / "does-it-help.svg")


def results(name: str) -> dict[str, Any]:
    """What a comparison found."""
    return json.loads((HERE / name / "results.json").read_text(encoding="utf-8"))


def scores(found: Mapping[str, Any]) -> Figure:
    """Bars of one comparison, a panel for each data set; the baseline is the dashed line."""
    tables = found["data"]
    size = (9, 0.4 + sum(0.32 * len(table["rows"]) + 0.6 for table in tables))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(tables), squeeze=False, height_ratios=[len(t["rows"]) for t in tables])
    for axes, table in zip(panels[:, 0], tables, strict=True):
        rows = table["rows"]
        colours = [VERDICTS.get(row["verdict"], "#8a8a8a") for row in rows.values()]
        _bars(axes, [*rows], [*rows.values()], colours)
        axes.axvline(rows[found["baseline"]]["mean"], color="0.3", linestyle="--", linewidth=1)
        axes.set_title(table["name"], size=10, loc="left")
        axes.set_xlabel(found["score"])
    return figure


def _bars(
    axes: Axes, names: Sequence[str], rows: Sequence[Mapping[str, Any]], colours: Sequence[str]
) -> None:
    means = [row["mean"] for row in rows]
    deviations = [row["deviation"] or 0 for row in rows]
    axes.barh(names, means, xerr=deviations, color=colours, height=0.7, error_kw={"elinewidth": 1.2})
    axes.set_xlim(0, 1.2 * max(m + d for m, d in zip(means, deviations, strict=True)))
    for place, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        label = f"{mean:.2f} ± {deviation:.2f}"
        axes.annotate(
            label, (mean + deviation, place), (4, 0), textcoords="offset points", va="center", size=8
        )
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def summary() -> Figure:
    """Post-LN, rSkip+LN of order 2 and Pre-LN in every comparison of translation that has them."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots()
    told: set[str] = set()
    for group, (name, table, _) in enumerate(SUMMARY):
        rows = results(name)["data"][table]["rows"]
        for number, (variant, colour) in enumerate(SHOWN.items()):
            if variant not in rows:
                continue
            row, place = rows[variant], group + 0.27 * (number - 1)
            label = (
                f"_{variant}" if variant in told else variant
            )  # matplotlib leaves such names out of the legend
            told.add(variant)
            axes.bar(place, row["mean"], 0.25, yerr=row["deviation"], color=colour, label=label, capsize=2)
            top = row["mean"] + row["deviation"]
            axes.annotate(
                f"{row['mean']:.1f}", (place, top), (0, 2), textcoords="offset points", ha="center", size=8
            )
    axes.set_xticks(range(len(SUMMARY)), [label for _, _, label in SUMMARY])
    axes.set(ylabel="BLEU", ylim=(0, 45))
    axes.legend(frameon=False, ncols=3, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _save(figure: Figure, file: Path) -> None:
    # the same numbers always give the same file
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "evidence"}):
        figure.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    main()
