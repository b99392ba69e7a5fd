"""What every form of word vectors is. ``EMBEDDINGS`` is their registry."""

from typing import Optional

from torch import Tensor, nn

from ..variant import Registry, Variant

__all__ = ["EMBEDDINGS", "WordVectors"]

EMBEDDINGS: Registry["WordVectors"] = Registry("embedding", "Word vectors")


class WordVectors(Variant):
    """How word vectors follow from the rows of a table: those that a model reads, and those that make its logits.

    It is one choice for a whole model, whose tables may be one.
    """

    needs_rows = False
    """Whether it means something only where each word has a row of its own."""

    def first(self, weight: Tensor, padding: Optional[int]) -> None:
        """Change the first weights of a table, drawn as fairseq does.

        Args:
            weight: (words, dim).
            padding: the row that stays zero; None where there is none.
        """

    def apply(self, table: nn.Embedding | nn.Linear) -> None:
        """Let an embedding, or the map to the logits, compute with these vectors.

        The module itself changes its class, so that its parameter keeps its name and is shared as it was.
        """
