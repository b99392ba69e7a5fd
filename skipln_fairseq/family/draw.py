"""The map of the family: a column for each axis, in it the variants with year and paper, oldest first."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from ..common.errors import UserError
from ..common.files import whole
from ..nn.variant import Declaration, Paper, Registry

__all__ = ["draw"]

# Okabe and Ito's palette, told apart with every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
WIDTH, ROW = 3.6, 0.42
"""Inches of a column and of a variant."""


def draw(registries: Sequence[Registry], file: Path) -> None:
    """Write the figure.

    Raises:
        UserError: for a file that is no SVG, PDF or PNG by its name.
    """
    if file.suffix not in (".svg", ".pdf", ".png"):
        raise UserError(f"--map {file}: name a file that ends in .svg, .pdf or .png")
    rows = max(map(len, registries)) + 1
    size = (WIDTH * len(registries), ROW * rows)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "family"}):
        figure = Figure(figsize=size)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, len(registries)), ylim=(rows, 0))
        axes.axis("off")
        for column, registry in enumerate(registries):
            colour = COLOURS[column % len(COLOURS)]
            axes.text(column + 0.04, 0.5, registry.about, weight="bold", size=11, color=colour, va="center")
            for row, variant in enumerate(registry.declarations(), 1):
                _entry(axes, column + 0.04, row + 0.5, variant, colour)
        metadata = {"Date": None} if file.suffix == ".svg" else None
        with whole(file) as beside:
            figure.savefig(beside, format=file.suffix[1:], metadata=metadata, dpi=150)


def _entry(axes, x: float, y: float, variant: Declaration, colour: str) -> None:
    """Year, name and flag's value in one line, who published it below."""
    known = isinstance(variant.paper, Paper)
    axes.text(x, y - 0.17, str(variant.paper.year) if known else "–", size=9, color=colour, va="center")
    axes.text(x + 0.12, y - 0.17, variant.title, size=9, va="center")
    source = variant.paper.name if known else variant.paper
    axes.text(x + 0.12, y + 0.2, f"{variant.choice} · {source}", size=7, color="0.4", va="center")
