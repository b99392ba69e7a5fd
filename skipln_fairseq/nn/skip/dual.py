"""ResiDual: a post-normed and a plain sum side by side."""

from collections.abc import Callable
from typing import Optional

import torch
from torch import Tensor, nn

from ..norm.layer import LayerNorm
from ..variant import Paper
from .base import SKIPS, TOKEN, Site, Skip

__all__ = ["DualEnd", "DualSkip"]


@SKIPS.declare(
    "dual",
    title="ResiDual",
    equation="p ← N(p + F(p)), d ← d + F(p), at the end p + N(d), whose eps is 10⁻⁷",
    paper=Paper("Xie et al. 2023", "2304.14802"),
    goes_with=((TOKEN, ("post",)),),
    has_forms=True,
)
class DualSkip(Skip):
    """ResiDual: ``p ← LN(p + F(p))`` beside ``d ← d + F(p)``; the stream is ``(p, d)``, at first ``(x, x)``.

    A stream that is only x is that first one. :class:`DualEnd` merges the two at the stack's end.
    Source: Xie, Zhang, Guo, Tan, Bian, Awadalla, Menezes, Qin, Yan 2023, arXiv:2304.14802.

    Args:
        dim: the feature dimension.
    """

    is_wide = True
    merges = True

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    @classmethod
    def build(cls, site: Site) -> "DualSkip":
        return cls(site.dim)

    @classmethod
    def build_end(cls, dim: int, make_norm: Callable[..., nn.Module], form: str) -> "DualEnd":
        norm = make_norm()
        if form == "authors" and isinstance(norm, LayerNorm):
            norm.eps = 1e-7
        return DualEnd(dim, norm)

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
        norm: N; where it is LayerNorm the authors' code gives it an eps of 1e-7, smaller than that of all others; in
            the form that this plugin had first it is as theirs.
    """

    def __init__(self, dim: int, norm: nn.Module):
        super().__init__()
        self.dim = dim
        self.norm = norm

    def forward(self, stream: Tensor) -> Tensor:
        return stream[..., : self.dim] + self.norm(stream[..., -self.dim :])
