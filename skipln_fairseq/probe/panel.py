"""What one set of axes shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from .subject import Measured
from .weights import Matrix

__all__ = [
    "ACTIVATION_LABEL",
    "FC2_LABEL",
    "GRADIENT_LABEL",
    "MatrixPanel",
    "Panel",
    "panels",
    "trained_panels",
]


@dataclass(frozen=True)
class Panel:
    """Lines over the sub-layers, or over the depths.

    Attributes:
        title: above it.
        ylabel: what is measured.
        measured: the models that it shows.
        quantity: the attribute of a reading to draw over the sub-layers; None: the last layer's fc2 gradient over
            the depths.
        colours: after how many variants the colours begin anew, with another line.
    """

    title: str
    ylabel: str
    measured: Sequence[Measured]
    quantity: str | None = None
    colours: int = 7


@dataclass(frozen=True)
class MatrixPanel:
    """A lower triangle of squares: their area is the weight's size, and negative ones are hollow.

    Attributes:
        title: above it.
        matrix: what it shows.
    """

    title: str
    matrix: Matrix


FC2_LABEL = r"$\|\partial\,\mathrm{loss}/\partial W_2\|_F$ of the last layer's fc2"
GRADIENT_LABEL = r"$\|\partial\,\mathrm{loss}/\partial y\|_2$ at the sub-layer's output y"
ACTIVATION_LABEL = r"mean over tokens of $\|y\|_2$"


def panels(measured: Sequence[Measured]) -> list[Panel]:
    """Everything that was measured; over the sub-layers only the models of the greatest depth."""
    deepest = max(one.depth for one in measured)
    shown = [one for one in measured if one.depth == deepest]
    found = [
        Panel("Gradient", GRADIENT_LABEL, shown, "gradient_norm"),
        Panel("Activation", ACTIVATION_LABEL, shown, "activation_norm"),
        Panel("x : F by coefficients", "median |coefficient of x / of F(x)|", shown, "coefficient_ratio"),
        Panel("x : F by norms", r"$\|$term of x$\|_2$ / $\|$term of F(x)$\|_2$", shown, "term_ratio"),
    ]
    if len({one.depth for one in measured}) > 1:
        found.insert(0, Panel("Last feed-forward weight", FC2_LABEL, measured))
    return found


def trained_panels(measured: Sequence[Measured]) -> list[Panel | MatrixPanel]:
    """Of trained models what only some have: the weights between blocks, and what became of several streams."""
    first = {one.variant: one for one in reversed(measured)}
    found: list[Panel | MatrixPanel] = [
        MatrixPanel(f"{name}: weights of the {side}'s blocks", matrix)
        for name, one in reversed(first.items())
        for side, matrix in one.matrices.items()
    ]
    with_streams = [one for one in measured if one.readings[0].effective_streams is not None]
    if with_streams:
        found += [
            Panel("Streams that differ", "effective number of streams", with_streams, "effective_streams"),
            Panel("The largest stream", "share of all streams' energy", with_streams, "largest_stream"),
            Panel("Exchange of streams", "change by mixing, of the streams", with_streams, "stream_exchange"),
        ]
    return found
