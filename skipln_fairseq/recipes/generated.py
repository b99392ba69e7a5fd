"""A corpus that needs no download: generated sentences, as the files of a recipe."""

import itertools
from pathlib import Path

from ..common.errors import UserError
from ..common.files import whole
from .generator import generate

__all__ = ["LANGS", "SIZES", "write_corpus"]

LANGS = ("en", "de")
SIZES = {"train": 18_000, "valid": 1_000, "test": 1_000}
"""Pairs of each part; no pair is in two parts."""


def write_corpus(folder: Path) -> list[Path]:
    """Write ``train``, ``valid`` and ``test``, each as two files of plain text, into a new folder. The same each time.

    Raises:
        UserError: where the folder is there already, or cannot be made.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already")
    if not folder.parent.is_dir():
        raise UserError(f"{folder}: no such folder {folder.parent}")
    pairs = iter(generate(sum(SIZES.values()), seed=1))
    with whole(folder) as beside:
        beside.mkdir()
        for part, size in SIZES.items():
            sides = zip(*itertools.islice(pairs, size), strict=True)
            for lang, lines in zip(LANGS, sides, strict=True):
                (beside / f"{part}.{lang}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return [folder / f"{part}.{lang}" for part in SIZES for lang in LANGS]
