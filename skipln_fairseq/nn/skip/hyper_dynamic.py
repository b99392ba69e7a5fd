"""Hyper-Connections, dynamic: the weights depend on the streams."""

import torch
from torch import Tensor, nn

from ..norm.layer import LayerNorm
from ..precision import single
from ..variant import Paper
from .base import SKIPS
from .hyper import HyperSkip
from .streams import AROUND_F, STREAMS, mixed

__all__ = ["DynamicHyperSkip"]


@SKIPS.declare(
    "hyper-dynamic",
    title="dynamic Hyper-Connections",
    equation="Hyper-Connections with Aₘ + s tanh(N(H)Wₘ), Aᵣ + s tanh(N(H)Wᵣ), b + t tanh(N(H)w); at first Pre-LN",
    paper=Paper("Zhu et al. 2024", "2409.19606"),
    options=(STREAMS,),
    goes_with=AROUND_F,
)
class DynamicHyperSkip(HyperSkip):
    """:class:`.HyperSkip` with ``A_m + s tanh(N(H) W_m)``, ``A_r + s tanh(N(H) W_r)`` and ``b + t tanh(N(H) w)``.

    Each row of H predicts its own row of A_m, A_r and b, with W_m (dim, 1), W_r (dim, n) and w (dim) that all rows
    share. They start at 0, s and t at 0.01, so that at first all is as in :class:`.HyperSkip`. N is a LayerNorm of its
    own, as in the authors' listing, whatever norm the sub-layer has.

    ``to_alpha`` holds W_m and W_r side by side, ``to_beta`` w; ``alpha_scale`` is s and ``beta_scale`` t.

    Source: Zhu et al. 2024, arXiv:2409.19606, equations 10 to 13 and algorithm 2.
    """

    def __init__(self, first: Tensor, width: int):
        super().__init__(first, width)
        self.norm = LayerNorm(width)
        self.to_alpha = nn.Parameter(torch.zeros(width, self.reads + self.streams))
        self.to_beta = nn.Parameter(torch.zeros(width))
        self.alpha_scale = nn.Parameter(torch.full((1,), 0.01))
        self.beta_scale = nn.Parameter(torch.full((1,), 0.01))

    def read_weights(self, streams: Tensor) -> Tensor:
        predicted = torch.matmul(single(self.norm(streams)), single(self.to_alpha[:, : self.reads]))
        return single(self.alpha[:, : self.reads]) + single(self.alpha_scale) * single(predicted).tanh()

    def write_weights(self, streams: Tensor) -> Tensor:
        predicted = torch.matmul(single(self.norm(streams)), single(self.to_beta))
        return single(self.beta) + single(self.beta_scale) * single(predicted).tanh()

    def keep(self, streams: Tensor) -> Tensor:
        predicted = torch.matmul(single(self.norm(streams)), single(self.to_alpha[:, self.reads :]))
        weights = single(self.alpha[:, self.reads :]) + single(self.alpha_scale) * single(predicted).tanh()
        return mixed(weights, streams)
