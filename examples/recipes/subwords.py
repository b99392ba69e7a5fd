"""Sub-words, learnt on the training text of both languages: SentencePiece's, or those of subword-nmt on tokens."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import sentencepiece
from subword_nmt import apply_bpe, learn_bpe

from skipln_fairseq.errors import UserError

__all__ = ["KINDS", "REMOVE"]

Encode = Callable[[Iterable[str]], Iterator[str]]


def _sentencepiece(texts: list[Path], size: int, folder: Path) -> Encode:
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(map(str, texts)),
            model_prefix=str(folder / "subwords"),
            vocab_size=size,
            model_type="bpe",
            character_coverage=1.0,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        limit = re.search(r"<= ?(\d+)", str(error))
        valid = f"at most {limit[1]} are possible" if limit else "give another number"
        raise UserError(f"subwords: size {size}: not possible with this corpus, {valid}") from error
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "subwords.model"))
    return lambda lines: (" ".join(pieces.encode(line, out_type=str)) for line in lines)


def _subword_nmt(texts: list[Path], size: int, folder: Path) -> Encode:
    codes = folder / "codes"

    def lines() -> Iterator[str]:
        for text in texts:
            with text.open(encoding="utf-8", newline="\n") as stream:
                yield from stream

    with codes.open("w", encoding="utf-8") as file:
        learn_bpe.learn_bpe(lines(), file, size)
    with codes.open(encoding="utf-8") as file:
        pieces = apply_bpe.BPE(file)
    return lambda lines: (pieces.process_line(line) for line in lines)


KINDS: dict[str, Callable[[list[Path], int, Path], Encode]] = {
    "sentencepiece": _sentencepiece,
    "subword-nmt": _subword_nmt,
}
"""Learn so many sub-words from files, leave the model in a folder, and give what splits lines."""

REMOVE = {"sentencepiece": "sentencepiece", "subword-nmt": "@@ "}
"""What fairseq calls undoing them (``--remove-bpe``)."""
