"""HybridNorm: norms inside attention, and one before the feed-forward that its skip starts from too."""

from ..skip.base import Site
from ..variant import Paper
from .base import PLACEMENTS, Connection
from .post import Post

__all__ = ["Hybrid", "Sum"]


class Sum(Post):
    """``y = skip(F(x), x)``, without a norm."""

    ends_with_norm = True
    has_norm = False


@PLACEMENTS.declare(
    "hybrid",
    title="HybridNorm",
    equation="y = x + A(x), z = N(y), z + F(z); A attention with QKV-norm, F the feed-forward",
    paper=Paper("Zhuo et al. 2025", "2503.04598"),
    qk_norms=("rms-qkv",),
    example="--skip-norm rms",
)
class Hybrid(Sum):
    """``y = skip(A(x), x)``, ``z = N(y)``, ``skip(F(z), z)``: one norm a layer, and a norm at the stack's end.

    Attention A reads x as it is, and normalises queries, keys and values (:class:`.RMSQKVNorm`). z is what the
    feed-forward F reads and what it is added to, so N stands after the sum of the sub-layer before, as in Post-LN, and
    has its parameters there. The paper is about decoders alone. A decoder's attention to the encoder is like its
    self-attention here, with queries, keys and values normed and x not; N stands after it. The paper's N is RMSNorm,
    its first weights are Megatron's; both are choices of their own here.

    Source: Zhuo, Zeng, Wang, Zhang, Yang, Li, Zhou, Ma, NeurIPS 2025, arXiv:2503.04598, and the authors' code.
    """

    @classmethod
    def at(cls, site: Site) -> type[Connection]:
        return Post if site.index == site.size - 2 else Sum
