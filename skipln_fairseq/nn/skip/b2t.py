"""B2T connection: a layer's last sub-layer also sees what the layer began with."""

from typing import Optional

import torch
from torch import Tensor

from ..variant import Paper
from .base import NORMED, SKIPS, Branch, Site, Skip

__all__ = ["BottomFirst", "BottomLast", "BottomMiddle", "BottomToTop"]


@SKIPS.declare(
    "b2t",
    title="B2T connection",
    equation="N(x + F(x)), in a layer's last sub-layer N(x + F(x) + x_layer); F's first weights from the depth",
    paper=Paper("Takase et al. 2022", "2206.00330"),
    goes_with=((NORMED, ("post",)),),
    has_forms=True,
)
class BottomToTop(Skip):
    """``x + F(x)``, and in a layer's last sub-layer ``x + F(x) + x_layer`` with the layer's own input.

    Inside a layer the stream is ``(x, x_layer)``, between layers it is x. Each sub-layer is one of the three classes
    below. In the authors' code all weight matrices of a layer start as they were drawn, times ``layers^(−1/2)``, the
    layers being those of its side; in the form that this plugin had first they start as drawn.

    The term x_layer counts for neither side of the probe's x : F.

    Source: Takase, Kiyono, Kobayashi, Suzuki 2022, arXiv:2206.00330.
    """

    is_wide = True

    @classmethod
    def build(cls, site: Site) -> "BottomToTop":
        if site.index == 0:
            return BottomFirst()
        return BottomLast() if site.last else BottomMiddle()

    @classmethod
    @torch.no_grad()
    def initialise(cls, branch: Branch, site: Site) -> None:
        if site.form == "authors":
            layers = dict(zip(("encoder", "decoder"), site.depth, strict=True))[site.side]
            for linear in (*branch.scores, *branch.others):
                linear.weight.mul_(layers**-0.5)


class BottomFirst(BottomToTop):
    """The first sub-layer: ``x + F(x)``, and x, the layer's own input, is kept beside."""

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        return torch.cat((y, stream), -1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + f_x


class BottomMiddle(BottomToTop):
    """A sub-layer in between: ``x + F(x)``, the layer's input is handed on."""

    def read(self, stream: Tensor) -> Tensor:
        return stream.chunk(2, -1)[0]

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        return torch.cat((y, stream.chunk(2, -1)[1]), -1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream.chunk(2, -1)[0] + f_x


class BottomLast(BottomToTop):
    """The last sub-layer: ``x + F(x) + x_layer``."""

    def read(self, stream: Tensor) -> Tensor:
        return stream.chunk(2, -1)[0]

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        x, bottom = stream.chunk(2, -1)
        return x + f_x + bottom
