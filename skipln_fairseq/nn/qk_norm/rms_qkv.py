"""QKV-norm: RMSNorm on queries, keys and values."""

from torch import nn

from ..norm.rms import RMSNorm
from ..variant import Paper
from .base import QK_NORMS, QKNorm

__all__ = ["RMSQKVNorm"]


@QK_NORMS.declare(
    "rms-qkv",
    title="QKV-norm",
    equation="N(q)·N(k)/√d_h, of N(v) the mean; an RMSNorm N for queries, keys and values each, for all heads",
    paper=Paper("Zhuo et al. 2025", "2503.04598"),
)
class RMSQKVNorm(QKNorm):
    """``softmax(N_q(q)·N_k(k)/√d_h) N_v(v)``, with RMSNorm over the features of a head.

    The gains, d_h each, are those of all heads, from 1. It is the attention of HybridNorm (:class:`.Hybrid`), and goes
    with every other placement too. The paper is about self-attention; that a decoder's attention to the encoder is
    normed in the same way is this plugin's.

    Source: Zhuo et al., NeurIPS 2025, arXiv:2503.04598, and its authors' code, whose eps is 10⁻⁵ and not 10⁻⁶.
    """

    def norms(self, dim: int) -> tuple[nn.Module, ...]:
        return RMSNorm(dim), RMSNorm(dim), RMSNorm(dim)
