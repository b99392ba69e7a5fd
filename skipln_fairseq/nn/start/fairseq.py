"""fairseq's own first weights."""

from .base import STARTS, Start

__all__ = ["FairseqStart"]


@STARTS.declare(
    "fairseq",
    title="fairseq's weights",
    equation="attention Xavier uniform, with gain 1/√2 for q, k and v; feed-forward U(±1/√d_in); embeddings N(0, 1/d)",
    paper="fairseq",
)
class FairseqStart(Start):
    """All weights as fairseq draws them.

    Attention is Xavier uniform, queries, keys and values with gain 1/√2; the feed-forward is torch's own
    ``U(−1/√d_in, 1/√d_in)``; embeddings have the deviation d^(−1/2).
    """
