"""ResFormer with fixed weights."""

from typing import List

from torch import Tensor

from ..variant import Paper
from .base import VALUES, ValueResidual

__all__ = ["IdentityResFormer"]


@VALUES.declare(
    "identity",
    title="Identity-ResFormer",
    equation="self-attention of block l ≥ 2 sums ½V₁ + ½Vₗ",
    paper=Paper("Zhou et al. 2024", "2410.17897"),
)
class IdentityResFormer(ValueResidual):
    """``½ V_1 + ½ V_l`` for l ≥ 2, V_1 the values of the stack's first block at the same positions.

    As in the authors' code (``modeling_llama_resformer``), whose models are decoders alone. Here encoder and decoder
    have a V_1 each, and attention to the encoder has its own values.
    Source: Zhou, Wu, Jiang, Obeid, Lan, ACL 2025, arXiv:2410.17897.
    """

    def forward(self, v: Tensor, memory: List[Tensor]) -> Tensor:
        return 0.5 * memory[0] + 0.5 * v
