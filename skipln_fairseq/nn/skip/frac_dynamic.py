"""Frac-Connections, dynamic."""

from ..variant import Paper
from .base import SKIPS
from .frac import FRACTIONS, FracSkip
from .hyper_dynamic import DynamicHyperSkip
from .streams import AROUND_F

__all__ = ["DynamicFracSkip"]


@SKIPS.declare(
    "frac-dynamic",
    title="dynamic Frac-Connections",
    equation="Frac-Connections with Y + s tanh(N(H)W₁), A + s tanh(N(H)W₂), b + t tanh(N(H)w); at first Pre-LN",
    paper=Paper("Zhu et al. 2025", "2503.14125"),
    options=(FRACTIONS,),
    goes_with=AROUND_F,
)
class DynamicFracSkip(FracSkip, DynamicHyperSkip):
    """:class:`.FracSkip` with ``Y + s tanh(N(H) W_1)``, ``A + s tanh(N(H) W_2)`` and ``b + t tanh(N(H) w)``.

    The maps W_1, W_2 (dim/m, m) and w (dim/m), which all parts share, start at 0, s and t at 0.01: Pre-LN at first. N
    is a LayerNorm over the dim/m features of a part, as in the authors' listing.

    Source: Zhu et al. 2025, arXiv:2503.14125, equations 11 to 15, algorithm 2.
    """
