"""Embeddings of another width than the model's end in one line (``--encoder-embed-path``, ``--decoder-embed-path``)."""

from typing import Any

from fairseq import utils
from torch import Tensor, nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Check a file of embeddings as it is read, and its vectors as they are put into the model."""

    @around(utils, "parse_embedding")
    def parse_embedding(stock, embed_path: str) -> dict[str, Tensor]:
        try:
            return stock(embed_path)
        except (ValueError, StopIteration) as error:
            raise UserError(
                f"{embed_path}: valid is a line of two numbers, then a word and its numbers in each line ({error})"
            ) from error

    @around(utils, "load_embedding")
    def load_embedding(stock, embed_dict: dict[str, Tensor], vocab: Any, embedding: nn.Embedding) -> Any:
        for word, vector in embed_dict.items():
            if len(vector) != embedding.embedding_dim:
                raise UserError(
                    f"the pretrained embedding of {word!r} has {len(vector)} numbers, the model's "
                    f"{embedding.embedding_dim}: set --encoder-embed-dim or --decoder-embed-dim"
                )
        return stock(embed_dict, vocab, embedding)
