"""From plain sentences to what fairseq trains on: SentencePiece pieces, then fairseq-preprocess."""

from collections.abc import Callable
from pathlib import Path

from skipln_fairseq.recipes.pieces import learn_pieces
from skipln_fairseq.runs import read_lines

from . import commands
from .pairs import Pair

__all__ = ["PARTS", "SOURCE_LANG", "prepare", "write_plain"]

PARTS = ("train", "valid", "test")
SOURCE_LANG = "en"


def write_plain(parts: dict[str, list[Pair]], folder: Path, target_lang: str) -> None:
    """Write ``train.en``, ``train.de``, …: plain text, one sentence in a line."""
    for part, pairs in parts.items():
        for lang, lines in (
            (SOURCE_LANG, [pair.source for pair in pairs]),
            (target_lang, [pair.target for pair in pairs]),
        ):
            (folder / f"{part}.{lang}").write_text("".join(f"{line}\n" for line in lines), "utf-8")


def prepare(
    corpus: Path, folder: Path, target_lang: str, vocabulary: int, say: Callable[[str], None]
) -> None:
    """Learn at most ``vocabulary`` sub-words for both languages from the training part, split all parts, binarise them.

    Raises:
        UserError: ``vocabulary`` pieces are too few for this corpus, or fairseq-preprocess fails.
    """
    languages = (SOURCE_LANG, target_lang)
    texts = [corpus / f"train.{lang}" for lang in languages]
    pieces = learn_pieces(texts, folder / "subwords", vocabulary, 0.9995, "--vocabulary", exact=False)
    for part in PARTS:
        for lang in languages:
            encoded = pieces.encode(read_lines(corpus / f"{part}.{lang}"), out_type=str)
            text = "".join(" ".join(line) + "\n" for line in encoded)
            (folder / f"{part}.{lang}").write_text(text, "utf-8")
    commands.run(
        [
            *("fairseq-preprocess", "--user-dir", commands.USER_DIR),
            *("--source-lang", SOURCE_LANG, "--target-lang", target_lang, "--joined-dictionary"),
            *(word for part in PARTS for word in (f"--{part}pref", commands.path(folder / part))),
            *("--destdir", commands.path(folder / "binary")),
        ],
        folder / "preprocess.log",
        say,
    )
