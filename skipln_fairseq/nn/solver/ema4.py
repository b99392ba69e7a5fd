"""PCformer's predictor of fourth order."""

from ..variant import Paper
from .base import SOLVERS, TOKEN_ANYWHERE
from .ema2 import PER_BLOCK, MovingAverage2

__all__ = ["MovingAverage4"]


@SOLVERS.declare(
    "ema4",
    title="PCformer's predictor, order 4",
    equation="y' = y + Σₖ α(1 − α)⁴⁻ᵏFₖ, F as in RK4, α from 0.5",
    paper=Paper("Li et al. 2024", "2411.03042"),
    options=(PER_BLOCK,),
    goes_with=TOKEN_ANYWHERE,
    example="--skip-type plain --norm-placement pre",
)
class MovingAverage4(MovingAverage2):
    """As :class:`.MovingAverage2`, over the four stages of ``rk4``."""

    steps = (0.5, 0.5, 1.0)
