"""What a call measures and which panels show it; the default picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from .subject import Measured, Variant

__all__ = ["PICTURE_DEPTHS", "PICTURE_WIDTH", "SCALED", "XIONG", "Panel", "default_panels", "panels"]

PICTURE_WIDTH = (
    *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "256", "--encoder-attention-heads", "4"),
    *("--decoder-embed-dim", "64", "--decoder-ffn-embed-dim", "256", "--decoder-attention-heads", "4"),
)
PICTURE_DEPTHS = (6, 8, 10, 12, 14)

XIONG = (
    Variant("Post-LN", ("--skip-type", "plain")),
    Variant("Pre-LN", ("--skip-type", "plain", "--norm-placement", "pre")),
    Variant("rSkip+LN, order 2", ("--skip-type", "recursive", "--skip-order", "2")),
)
"""The two of Xiong et al. 2020, arXiv:2002.04745, figure 3, and the recursive skip beside them."""

SCALED = tuple(
    Variant(f"λ = {scale}, {label}", ("--skip-type", "expanded", "--skip-scale", scale, "--skip-norm", norm))
    for norm, label in (("none", "no norm"), ("layer", "LN"))
    for scale in ("0.5", "1", "2")
)
"""xSkip and xSkip+LN of Liu et al. 2020, arXiv:2105.07205: what scaling x does to the gradient, and LN to that."""


@dataclass(frozen=True)
class Panel:
    """One set of axes.

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


FC2_LABEL = r"$\|\partial\,\mathrm{loss}/\partial W_2\|_F$ of the last layer's fc2"
GRADIENT_LABEL = r"$\|\partial\,\mathrm{loss}/\partial y\|_2$ at the sub-layer's output y"


def default_panels(xiong: Sequence[Measured], scaled: Sequence[Measured]) -> list[Panel]:
    """Gradient of the last weight against the depth, and of every sub-layer with x scaled."""
    return [
        Panel("Last feed-forward weight, at initialisation", FC2_LABEL, xiong),
        Panel("λx + F(x), without and with LN", GRADIENT_LABEL, scaled, "gradient_norm", 3),
    ]


def panels(measured: Sequence[Measured]) -> list[Panel]:
    """Everything that was measured; over the sub-layers only the models of the greatest depth."""
    deepest = max(one.depth for one in measured)
    shown = [one for one in measured if one.depth == deepest]
    found = [
        Panel("Gradient", GRADIENT_LABEL, shown, "gradient_norm"),
        Panel("Activation", r"mean over tokens of $\|y\|_2$", shown, "activation_norm"),
        Panel("x : F by coefficients", "median |coefficient of x / of F(x)|", shown, "coefficient_ratio"),
        Panel("x : F by norms", r"$\|$term of x$\|_2$ / $\|$term of F(x)$\|_2$", shown, "term_ratio"),
    ]
    if len({one.depth for one in measured}) > 1:
        found.insert(0, Panel("Last feed-forward weight", FC2_LABEL, measured))
    return found
