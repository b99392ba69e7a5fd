"""No mixing."""

from ..variant import Paper
from .base import MIXINGS, Passing, Place

__all__ = ["NoMixing"]


@MIXINGS.declare(
    "none",
    title="no mixing of depths",
    equation="a block reads what the block before it wrote",
    paper=Paper("Vaswani et al. 2017", "1706.03762"),
)
class NoMixing(Passing):
    """``x_{l+1} = y_l``. A stack without mixing has none of these modules, and is fairseq's loop."""

    @classmethod
    def build(cls, place: Place) -> "NoMixing":
        return cls()
