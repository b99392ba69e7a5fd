"""Skips that remember more than the sub-layer's input: their stream is two tensors side by side."""

from typing import Optional

import torch
from torch import Tensor, nn

from .base import Skip

__all__ = ["BOTTOM_TO_TOP", "BottomFirst", "BottomLast", "BottomMiddle", "DualEnd", "DualSkip"]


class BottomFirst(Skip):
    """B2T connection, first sub-layer: ``x + F(x)``, and x, the layer's own input, is kept beside.

    In the layer's last sub-layer that input is added once more, before the last norm. Inside a layer the stream
    is ``(x, x_layer)``, between layers it is x. Its initialisation is :func:`skipln_fairseq.nn.init.b2t_`.
    Source: Takase, Kiyono, Kobayashi, Suzuki 2022, arXiv:2206.00330.
    """

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        return torch.cat((y, stream), -1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + f_x


class BottomMiddle(Skip):
    """B2T connection, a sub-layer in between: ``x + F(x)``, the layer's input is handed on."""

    def read(self, stream: Tensor) -> Tensor:
        return stream.chunk(2, -1)[0]

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        return torch.cat((y, stream.chunk(2, -1)[1]), -1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream.chunk(2, -1)[0] + f_x


class BottomLast(Skip):
    """B2T connection, last sub-layer: ``x + F(x) + x_layer``."""

    def read(self, stream: Tensor) -> Tensor:
        return stream.chunk(2, -1)[0]

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        x, bottom = stream.chunk(2, -1)
        return x + f_x + bottom


BOTTOM_TO_TOP: dict[str, type[Skip]] = {"first": BottomFirst, "middle": BottomMiddle, "last": BottomLast}


class DualSkip(Skip):
    """ResiDual: ``p ← LN(p + F(p))`` beside ``d ← d + F(p)``; the stream is ``(p, d)``, at first ``(x, x)``.

    A stream that is only x is that first one. :class:`DualEnd` merges the two at the stack's end.
    Source: Xie, Zhang, Guo, Tan, Bian, Awadalla, Menezes, Qin, Yan 2023, arXiv:2304.14802.

    Args:
        dim: the feature dimension.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def read(self, stream: Tensor) -> Tensor:
        return stream[..., : self.dim]

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        return torch.cat((y, stream[..., -self.dim :] + f_x), -1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream[..., : self.dim] + f_x


class DualEnd(nn.Module):
    """The end of a ResiDual stack: ``p + N(d)`` of the stream ``(p, d)``.

    Args:
        dim: the feature dimension.
        norm: N; where it is LayerNorm the authors' code gives it an eps of 1e-7, smaller than that of all others.
    """

    def __init__(self, dim: int, norm: nn.Module):
        super().__init__()
        self.dim = dim
        self.norm = norm

    def forward(self, stream: Tensor) -> Tensor:
        return stream[..., : self.dim] + self.norm(stream[..., -self.dim :])
