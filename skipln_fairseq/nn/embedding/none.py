"""Word vectors as they are."""

from ..variant import Paper
from .base import EMBEDDINGS, WordVectors

__all__ = ["PlainWordVectors"]


@EMBEDDINGS.declare(
    "none",
    title="plain word vectors",
    equation="√d w is read, w·x is the logit",
    paper=Paper("Vaswani et al. 2017", "1706.03762"),
)
class PlainWordVectors(WordVectors):
    """The rows w of the tables."""
