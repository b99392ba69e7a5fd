"""ResFormer with learned weights."""

from typing import List

import torch
from torch import Tensor, nn

from ..variant import Paper
from .base import VALUES, ValueResidual

__all__ = ["LearnableResFormer"]


@VALUES.declare(
    "learnable",
    title="Learnable-ResFormer",
    equation="self-attention of block l ≥ 2 sums λₗV₁ + μₗVₗ, λ and μ learned from ½",
    paper=Paper("Zhou et al. 2024", "2410.17897"),
)
class LearnableResFormer(ValueResidual):
    """``λ_l V_1 + μ_l V_l`` for l ≥ 2, two learned numbers a block, each ½ at first, which is ``identity``.

    The equation is the paper's. Its text was not at hand: that both numbers start as ½ is what summaries of it agree
    on, and the authors' code has the fixed form alone. Their later recommendation of another start
    (Learnable-ResFormer-Plus) is not here, nor is SVFormer.
    Source: Zhou, Wu, Jiang, Obeid, Lan, ACL 2025, arXiv:2410.17897.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, v: Tensor, memory: List[Tensor]) -> Tensor:
        weight = self.weight.to(v.dtype)
        return weight[0] * memory[0] + weight[1] * v
