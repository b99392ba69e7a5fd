"""Hyper-Connections, static."""

import torch
from torch import Tensor, nn

from ..precision import single
from ..variant import Paper
from .base import SKIPS, Site
from .streams import AROUND_F, STREAMS, Streams, mixed

__all__ = ["HyperSkip"]


@SKIPS.declare(
    "hyper",
    title="Hyper-Connections",
    equation="h = Aₘᵀ H, H ← Aᵣᵀ H + bF(h), at the end N(Σ Hᵢ); n streams H, at first Pre-LN",
    paper=Paper("Zhu et al. 2024", "2409.19606"),
    options=(STREAMS,),
    goes_with=AROUND_F,
)
class HyperSkip(Streams):
    """``h = A_mᵀ H``, ``H ← A_rᵀ H + b F(h)``, at the end ``N(Σ_i H_i)``, with learned A_m (n, 1), A_r (n, n), b (n).

    H has n rows, at first copies of the embedding. In sub-layer l of its stack (of both kinds of attention and the
    feed-forward, from 0) A_m is at first 1 for row ``l mod n`` and 0 elsewhere, A_r the identity, b all ones: each row
    then equals Pre-LN's hidden state, and the last norm takes n times that.

    ``alpha`` holds A_m and A_r side by side, ``beta`` b.

    Two things of the authors' recipe are not here. They exempt A_m, A_r and b from weight decay, while fairseq's
    optimisers decay all parameters. They multiply the first weights of F's last projection by √n, so that the sum at
    the end keeps its deviation; here F starts as with any other rule.

    Source: Zhu, Huang, Huang, Zeng, Mao, Wu, Min, Zhou 2024, arXiv:2409.19606, equations 1 to 5, section 2.3 and
    algorithm 2.

    Args:
        first: A_m at first, (n, reads).
        width: of one stream.
    """

    def __init__(self, first: Tensor, width: int):
        super().__init__(first.size(0), width, first.size(1))
        self.alpha = nn.Parameter(torch.cat((first, torch.eye(self.streams)), 1))
        self.beta = nn.Parameter(torch.ones(self.streams))

    @classmethod
    def build(cls, site: Site, streams: int = 4) -> "HyperSkip":
        return cls(torch.eye(streams)[:, [site.number % streams]], site.dim)

    def read_weights(self, streams: Tensor) -> Tensor:
        return single(self.alpha[:, : self.reads])

    def write_weights(self, streams: Tensor) -> Tensor:
        return single(self.beta)

    def keep(self, streams: Tensor) -> Tensor:
        return mixed(single(self.alpha[:, self.reads :]), streams)
