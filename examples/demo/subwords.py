"""From plain sentences to what fairseq trains on: SentencePiece pieces, then fairseq-preprocess."""

import re
from collections.abc import Callable
from pathlib import Path

import sentencepiece

from skipln_fairseq.errors import UserError
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
    """Learn one set of sub-words for both languages from the training part, split all parts, binarise them.

    Raises:
        UserError: ``vocabulary`` pieces cannot be made from this corpus, or fairseq-preprocess fails.
    """
    languages = (SOURCE_LANG, target_lang)
    model = folder / "subwords"
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(str(corpus / f"train.{lang}") for lang in languages),
            model_prefix=str(model),
            vocab_size=vocabulary,
            model_type="bpe",
            character_coverage=0.9995,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        limit = re.search(r"<= ?(\d+)", str(error))
        valid = f"at most {limit[1]} are possible" if limit else "give another number"
        raise UserError(f"--vocabulary {vocabulary}: not possible with this corpus, {valid}") from error
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")
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
