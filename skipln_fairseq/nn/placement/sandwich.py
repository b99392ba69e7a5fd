"""Sandwich-LN."""

from collections.abc import Callable
from typing import Optional

from torch import Tensor, nn

from ..variant import Paper
from .base import PLACEMENTS
from .res_post import ResPost

__all__ = ["Sandwich"]


@PLACEMENTS.declare(
    "sandwich",
    title="Sandwich-LN",
    equation="x + N(F(N(x)))",
    paper=Paper("Ding et al. 2021", "2105.13290"),
)
class Sandwich(ResPost):
    """``y = skip(N(F(N₁(x))), x)``: norms on both sides of F (Ding et al. 2021, arXiv:2105.13290).

    N₁ is the child ``entry``; N, the last one, has the connection's own parameters.
    """

    def add_norms(self, make_norm: Callable[[], nn.Module]) -> None:
        self.entry = make_norm()

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.entry(self.skip.read(stream), padding_mask)
