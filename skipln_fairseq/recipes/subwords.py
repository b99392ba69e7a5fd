"""Sub-words, learnt on the training text of both languages: SentencePiece's, or those of subword-nmt on tokens."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from subword_nmt import apply_bpe, learn_bpe

from .pieces import learn_pieces

__all__ = ["KINDS", "REMOVE"]

Encode = Callable[[Iterable[str]], Iterator[str]]


def _sentencepiece(texts: list[Path], size: int, folder: Path) -> Encode:
    pieces = learn_pieces(texts, folder / "subwords", size, 1.0, "subwords: size")
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
