"""What grows or fades from a side's first sub-layer to its last, as a table."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

from .subject import Measured

__all__ = ["Growth", "growth", "markdown"]


class Growth(NamedTuple):
    """Of a variant's side, medians over the seeds.

    Attributes:
        activation: norms at the first and the last sub-layer's output.
        gradient: likewise.
    """

    variant: str
    layers: int
    side: str
    activation: tuple[float, float]
    gradient: tuple[float, float]

    @property
    def activation_factor(self) -> float:
        """By what the activation grows upwards."""
        return self.activation[1] / self.activation[0]

    @property
    def gradient_factor(self) -> float:
        """By what the gradient grows downwards; less than 1: it fades."""
        return self.gradient[0] / self.gradient[1]


def growth(measured: Sequence[Measured]) -> Iterator[Growth]:
    """A row of each variant, depth and side, in their order."""
    for (name, layers), same in groupby(measured, lambda one: (one.variant, one.layers)):
        models = list(same)
        for side, depth in zip(("encoder", "decoder"), layers, strict=True):
            rows = [[reading for reading in one.readings if reading.place.side == side] for one in models]
            if depth:
                yield Growth(
                    name, depth, side, *(_ends(rows, f"{what}_norm") for what in ("activation", "gradient"))
                )


def _ends(rows: Sequence[Sequence[object]], quantity: str) -> tuple[float, float]:
    first, last = (median(getattr(row[end], quantity) for row in rows) for end in (0, -1))
    return first, last


def markdown(rows: Sequence[Growth]) -> str:
    """A table for the docs."""
    lines = [
        (
            "variant",
            "layers",
            "side",
            "‖y‖ first → last",
            "× upwards",
            "gradient first → last",
            "× downwards",
        ),
        ("---", "---:", "---", "---:", "---:", "---:", "---:"),
    ]
    for row in rows:
        ends = [f"{first:.3g} → {last:.3g}" for first, last in (row.activation, row.gradient)]
        factors = f"{row.activation_factor:.3g}", f"{row.gradient_factor:.3g}"
        lines.append((row.variant, str(row.layers), row.side, ends[0], factors[0], ends[1], factors[1]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
