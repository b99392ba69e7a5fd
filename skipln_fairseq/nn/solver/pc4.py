"""PCformer of fourth order, predictor and corrector."""

from ..variant import Paper
from .base import SOLVERS
from .ema2 import PER_BLOCK
from .pc2 import PRE, PredictorCorrector2

__all__ = ["PredictorCorrector4"]


@SOLVERS.declare(
    "pc4",
    title="PCformer, order 4",
    equation="as order 2, p of the predictor of order 4",
    paper=Paper("Li et al. 2024", "2411.03042"),
    options=(PER_BLOCK,),
    goes_with=PRE,
    example="--skip-type plain --norm-placement pre",
)
class PredictorCorrector4(PredictorCorrector2):
    """As :class:`.PredictorCorrector2`, behind ``ema4``."""

    steps = (0.5, 0.5, 1.0)
