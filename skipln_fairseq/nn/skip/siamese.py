"""SiameseNorm: a post-normed and an un-normed stream, both read by F."""

import math
from collections.abc import Callable, Iterable
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..variant import Option, Paper
from .base import SKIPS, TOKEN, Site, Skip

__all__ = ["SiameseEnd", "SiameseFirst", "SiameseSkip"]

SOURCE = Option(
    "source",
    "siamese_source",
    "whose SiameseNorm: code, what its authors published (default), or paper",
    "SOURCE",
    choices=("code", "paper"),
    default="code",
)


@SKIPS.declare(
    "siamese",
    title="SiameseNorm",
    equation="o = F(N(x + N(y))), x ← N(x + o/c), y ← y + o, c from the depth; at the end N(x + N(y))",
    paper=Paper("Li et al. 2026", "2602.08064"),
    options=(SOURCE,),
    goes_with=((TOKEN, ("post",)),),
)
class SiameseSkip(Skip):
    """``o = F(N_i(x + N_y(y)))``, ``x ← N_x(x + o/c)``, ``y ← y + o``; the stream is ``(x, y)``.

    x alone stands for ``(x, x)``. N_x is the connection's own norm, all gains start at 1. Paper and code differ:

    ===================  =========================  ====================
    ..                   code                       paper
    ===================  =========================  ====================
    c                    √(2(b + 1)) in block b     √(l + 1)
    before the first     N_x of the embedding       the embedding
    sub-layer x is
    the stack ends with  N_f(x + N_y(y))            x + N_y(y)
    ===================  =========================  ====================

    Blocks and sub-layers count from 0. The code's blocks have two sub-layers, so a block of three has 3 for the 2. The
    paper calls l the index of the layer; in its algorithm 1 what has an index is a residual block, which is a
    sub-layer here. The code's norm of the embedding belongs to the first layer and goes with it, where layers are
    dropped or taken out.

    The paper's language models have norms on queries, keys and values too (HybridNorm); there are none here.

    Source: Li, Han, Cao, Huang, Zhou, Chen, Zhao, Jiang, Jiang, Huang 2026, arXiv:2602.08064, algorithm 1;
    github.com/Qwen-Applications/SiameseNorm, its DeiT. Of the paper a summary was read, not its text.

    Args:
        dim: the feature dimension.
        divisor: c.
        norms: N_y and N_i; of the first sub-layer in the code's form that of the embedding too.
    """

    is_wide = True
    merges = True

    def __init__(self, dim: int, divisor: float, norms: Iterable[nn.Module]):
        super().__init__()
        self.dim = dim
        self.divisor = divisor
        self.norms = nn.ModuleList(norms)

    @classmethod
    def build(cls, site: Site, source: str = "code") -> "SiameseSkip":
        if source == "paper":
            return SiameseSkip(site.dim, math.sqrt(site.number + 1), [site.make_norm() for _ in range(2)])
        rule, norms = (SiameseFirst, 3) if site.number == 0 else (SiameseSkip, 2)
        divisor = math.sqrt(site.size * (site.layer + 1))
        return rule(site.dim, divisor, [site.make_norm() for _ in range(norms)])

    @classmethod
    def build_end(
        cls, dim: int, make_norm: Callable[..., nn.Module], form: str, source: str = "code"
    ) -> "SiameseEnd":
        return SiameseEnd(dim, make_norm(), [make_norm()] if source == "code" else [])

    def both(self, stream: Tensor) -> Tuple[Tensor, Tensor]:
        """x and y."""
        return stream[..., : self.dim], stream[..., -self.dim :]

    def read(self, stream: Tensor) -> Tensor:
        x, y = self.both(stream)
        return self.norms[1](x + self.norms[0](y))

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        return torch.cat((y, stream[..., -self.dim :] + f_x), -1)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.both(stream)[0] + f_x / self.divisor

    # What F reads is not what it is added to: there are no a and b of ``a x + b F(x)``.
    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> None:
        return None


class SiameseFirst(SiameseSkip):
    """The first sub-layer of a stack in the code's form: it norms the embedding for x."""

    def both(self, stream: Tensor) -> Tuple[Tensor, Tensor]:
        return self.norms[2](stream[..., : self.dim]), stream[..., -self.dim :]


class SiameseEnd(nn.Module):
    """The end of a SiameseNorm stack: ``x + N(y)`` of the stream ``(x, y)``, under a further norm if there is one.

    Args:
        dim: the feature dimension.
        norm: N.
        norms: the further one, or nothing.
    """

    def __init__(self, dim: int, norm: nn.Module, norms: Iterable[nn.Module]):
        super().__init__()
        self.dim = dim
        self.norm = norm
        self.norms = nn.ModuleList(norms)

    def forward(self, stream: Tensor) -> Tensor:
        total = stream[..., : self.dim] + self.norm(stream[..., -self.dim :])
        for norm in self.norms:
            total = norm(total)
        return total
