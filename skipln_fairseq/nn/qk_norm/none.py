"""Queries and keys as they are."""

from ..variant import Paper
from .base import QK_NORMS, QKNorm

__all__ = ["NoQKNorm"]


@QK_NORMS.declare(
    "none",
    title="plain queries and keys",
    equation="q·k/√d_h",
    paper=Paper("Vaswani et al. 2017", "1706.03762"),
)
class NoQKNorm(QKNorm):
    """The product of queries and keys over √d_h, d_h being the dimension of a head."""
