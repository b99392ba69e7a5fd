"""LAuReL-LR: a skip with a learned map of low rank beside it."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Option, Paper
from .base import ANYWHERE, SKIPS, Site, Skip

__all__ = ["LaurelLowRank"]


@SKIPS.declare(
    "laurel-lr",
    title="LAuReL-LR",
    equation="F(x) + BAx + x, of rank r; A orthogonal and B 0 at first",
    paper=Paper("Menghani et al. 2024", "2411.07501"),
    options=(Option("rank", "laurel_rank", "rank of LAuReL's map", "r", int, least=1, drawn=(1, 4)),),
    goes_with=ANYWHERE,
    example="--laurel-rank 4",
)
class LaurelLowRank(Skip):
    """``F(x) + B A x + x`` with learned A, (r, dim), and B, (dim, r).

    A starts with orthonormal rows, B at 0: the plain skip at first. The probe's x : F leaves BAx out, as a constant.

    Source: Menghani, Kumar, Kumar: "LAuReL: Learned Augmented Residual Layer", ICML 2025, arXiv:2411.07501.

    Args:
        dim: the feature dimension.
        rank: r.
    """

    def __init__(self, dim: int, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, dim))
        self.up = nn.Parameter(torch.zeros(dim, rank))
        nn.init.orthogonal_(self.down)

    @classmethod
    def build(cls, site: Site, rank: int) -> "LaurelLowRank":
        return cls(site.dim, rank)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        low = nn.functional.linear(stream, self.down)
        return f_x + nn.functional.linear(low, self.up) + stream
