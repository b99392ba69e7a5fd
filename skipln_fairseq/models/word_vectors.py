"""``--embedding-norm``: what a model's word vectors are made of."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..common.errors import UserError
from ..nn import EMBEDDINGS, STARTS, Start, WordVectors
from .choices import SIDES, embedding_of
from .config import StackConfig

__all__ = ["add_embedding_arg", "refuse_embedding_norm", "with_word_vectors"]

NO_ROWS = ("adaptive_softmax_cutoff", "adaptive_input", "character_embeddings")


def add_embedding_arg(parser) -> None:
    """Add ``--embedding-norm``; one for all tables, since the sides may share them."""
    text = f"what word vectors are made of: {', '.join(EMBEDDINGS)} (default: none)"
    parser.add_argument("--embedding-norm", metavar="NAME", help=text)


def refuse_embedding_norm(args: Any, stacks: Iterable[StackConfig]) -> None:
    """Refuse what has no rows of words, and initialisations that draw rows too.

    Raises:
        UserError: in one line.
    """
    name = embedding_of(args)
    if EMBEDDINGS[name].needs_rows:
        for flag in NO_ROWS:
            if getattr(args, flag, None):
                raise UserError(
                    f"--embedding-norm {name} does not go with --{flag.replace('_', '-')}: "
                    "each word needs a row of its own"
                )
    if EMBEDDINGS[name].first is WordVectors.first:
        return
    for start in (config.start for config in stacks):
        if STARTS[start].embedding is not Start.embedding:
            raise UserError(
                f"--embedding-norm {name} and --initialisation {start} both have first weights for word vectors"
            )


def with_word_vectors(model: nn.Module, args: Any) -> nn.Module:
    """A fresh model, its word vectors made of the chosen form.

    What was read from a file (``--encoder-embed-path``) stays, and the row of padding.
    """
    form = EMBEDDINGS[embedding_of(args)]()
    tables = {side: getattr(model, side).embed_tokens for side in SIDES if hasattr(model, side)}
    kept = {id(table.weight) for side, table in tables.items() if getattr(args, f"{side}_embed_path", None)}
    for table in (*tables.values(), model.decoder.output_projection):
        if isinstance(table, nn.Embedding | nn.Linear):
            form.apply(table)
            if id(table.weight) not in kept:
                form.first(table.weight, getattr(table, "padding_idx", None))
                kept.add(id(table.weight))
    return model
