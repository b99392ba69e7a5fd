"""Keel: norms before F and after the sum."""

from collections.abc import Callable
from typing import Optional

from torch import Tensor, nn

from ..variant import Paper
from .base import PLACEMENTS
from .post import Post

__all__ = ["Keel"]


@PLACEMENTS.declare(
    "keel",
    title="Keel",
    equation="N(αx + F(N₁(x))), α fixed",
    paper=Paper("Chen & Wei 2026", "2601.19895"),
    example="--skip-scale 12",
)
class Keel(Post):
    """``y = N(skip(F(N₁(x)), x))``, with the expanded skip ``N(αx + F(N₁(x)))``: Post-LN with a norm before F too.

    N₁ is the child ``entry``; N, the last one, has the connection's own parameters. α is large and follows from the
    depth, but how is not certain (the number of sub-layers, by summaries), so it has to be given: ``--skip-scale``.
    Nor is it whether the first layer is another one, so here it is not.

    Source: Chen, Wei: "Post-LayerNorm Is Back", 2026, arXiv:2601.19895, as far as its abstract and secondary sources
    give it.
    """

    def add_norms(self, make_norm: Callable[[], nn.Module]) -> None:
        self.entry = make_norm()

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.entry(self.skip.read(stream), padding_mask)
