"""DenseFormer's depth-weighted average."""

from typing import List

import torch
from torch import Tensor, nn

from ..skip.base import ANYWHERE
from ..variant import Option, Paper
from .base import MIXINGS, Mixing, Passing, Place, Remembering, weighted_sum

__all__ = ["DenseFormer"]


@MIXINGS.declare(
    "denseformer",
    title="DenseFormer",
    equation="after block i Σⱼ αᵢⱼ yⱼ over y₀, the embedding, to yᵢ, every k-th from the last on, "
    "after each p-th block; α from 0, but 1 of the last",
    paper=Paper("Pagliardini et al. 2024", "2402.02622"),
    options=(
        Option("dilation", "denseformer_dilation", "k (default: 1)", "K", int, 1, default=1, drawn=(1, 3)),
        Option("period", "denseformer_period", "p (default: 1)", "P", int, 1, default=1, drawn=(1, 2)),
    ),
    goes_with=ANYWHERE,
)
class DenseFormer(Mixing):
    """``x = Σ_j α_j y_j`` after block i, over the j ≤ i with ``j ≡ i`` modulo the dilation k.

    y_0 is the embedding and y_j what block j writes, counted from 1; the sum stands after every p-th block, that is
    i = p, 2p, …, after the last block before the norm at the stack's end. α starts as 0 and its last, of y_i, as 1: at
    first the model is the one without, bit for bit. As in the authors' code (``denseformer.DWAModules``); the paper has
    Pre-LN.
    Source: Pagliardini, Mohtashami, Fleuret, Jaggi, NeurIPS 2024, arXiv:2402.02622.

    Args:
        block: i, from 1.
        dilation: k.
    """

    def __init__(self, block: int, dilation: int):
        super().__init__()
        self.first = block % dilation
        self.dilation = dilation
        alpha = torch.zeros(block // dilation + 1)
        alpha[-1] = 1
        self.weight = nn.Parameter(alpha)

    @classmethod
    def build(cls, place: Place, dilation: int = 1, period: int = 1) -> Mixing:
        if place.index:
            return Passing()
        if place.layer == 0 or place.layer % period:
            return Remembering()
        return cls(place.layer, dilation)

    def forward(self, y: Tensor, memory: List[Tensor]) -> Tensor:
        memory.append(y)
        return weighted_sum(memory[self.first :: self.dilation], self.weight)
