"""Transparent attention."""

from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..mixing.base import weighted_sum
from ..variant import Option, Paper
from .base import SOURCES, Source

__all__ = ["Transparent"]


@SOURCES.declare(
    "transparent",
    title="transparent attention",
    equation="block j of the decoder attends to Σᵢ sᵢⱼ yᵢ over y₀, the embedding, to y_N, what the encoder's blocks "
    "write; s = softmax over i of W with dropout, W from 0",
    paper=Paper("Bapna et al. 2018", "1808.07561"),
    options=(
        Option(
            "dropout",
            "transparent_dropout",
            "dropout of transparent attention's weights (default: 0.1)",
            "P",
            least=0,
            below=1,
            default=0.1,
            drawn=(0, 0.5),
        ),
    ),
)
class Transparent(Source):
    """``z_j = Σ_i s_ij y_i``, ``s_·j = softmax(dropout(W_·j + 1/(N + 1)))``: what block j of the decoder attends to.

    y_0 is the encoder's embedding and y_i what its block i writes, N blocks; W is (N + 1, M) for M blocks of the
    decoder and starts as 0, so that each z is the mean at first. The sums are taken of what the blocks write, and no
    norm follows: the encoder's last norm, of Pre-LN and its like, is not there. So it is in the authors' code
    (lingvo: ``TransformerStack`` with ``is_transparent``, ``WeightedSumLayer``), and so are W's first value, the
    constant 1/(N + 1), which matters to dropout alone, and the rate of 0.1. Weights are in single precision at least.
    Source: Bapna, Chen, Firat, Cao, Wu, EMNLP 2018, arXiv:1808.07561.

    Args:
        blocks: N.
        readers: M.
        dropout: the probability with which a weight is dropped, before softmax.
    """

    reads_outputs = True

    def __init__(self, blocks: int, readers: int, dropout: float = 0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(blocks + 1, readers))
        self.dropout = dropout

    @classmethod
    def build(cls, blocks: int, readers: int, dropout: float = 0.1) -> Source:
        return cls(blocks, readers, dropout)

    def forward(self, x: Tensor, outputs: List[Tensor]) -> List[Tensor]:
        weight: Tensor = self.weight
        if weight.dtype == torch.float16 or weight.dtype == torch.bfloat16:
            weight = weight.float()
        weight = F.dropout(weight + 1 / len(outputs), self.dropout, self.training).softmax(0)
        return [weighted_sum(outputs, weight[:, j]) for j in range(weight.size(1))]
