"""SentencePiece's sub-words, as the demo and the recipes learn them."""

import re
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from ..common.errors import UserError

__all__ = ["learn_pieces"]


def learn_pieces(
    texts: Sequence[Path], model: Path, size: int, coverage: float, flag: str, exact: bool = True
) -> sentencepiece.SentencePieceProcessor:
    """Learn ``size`` pieces (BPE) from files, as ``model``.model and .vocab.

    Args:
        texts: plain text, a sentence a line.
        model: without its suffix.
        size: of the vocabulary.
        coverage: share of the characters that are pieces themselves.
        flag: what the user gave the size by, for the message.
        exact: whether a corpus that has fewer is refused, or gives those that it has.

    Raises:
        UserError: so many cannot be made of these texts.
    """
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(map(str, texts)),
            model_prefix=str(model),
            vocab_size=size,
            model_type="bpe",
            character_coverage=coverage,
            hard_vocab_limit=exact,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        limit = re.search(r"<= ?(\d+)", str(error))
        valid = f"at most {limit[1]} are possible" if limit else "another number may be"
        raise UserError(f"{flag} {size}: not possible with this corpus, {valid}: change it there") from error
    return sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")
