"""QK-norm as large models have it: RMSNorm."""

from torch import nn

from ..norm.rms import RMSNorm
from ..variant import Paper
from .base import QK_NORMS, QKNorm

__all__ = ["RMSQKNorm"]


@QK_NORMS.declare(
    "rms",
    title="QK-norm, RMSNorm",
    equation="N(q)·N(k)/√d_h, N an RMSNorm for queries and one for keys, each for all heads",
    paper=Paper("Dehghani et al. 2023", "2302.05442"),
)
class RMSQKNorm(QKNorm):
    """``N_q(q)·N_k(k)/√d_h``, with RMSNorm over the features of a head; the gains, d_h each, are those of all heads.

    Dehghani et al. 2023 (arXiv:2302.05442), who made it common, take LayerNorm; the language models after them RMSNorm.
    """

    def norms(self, dim: int) -> tuple[nn.Module, nn.Module]:
        return RMSNorm(dim), RMSNorm(dim)
