"""How long sentence pairs are: pairs of (source, target) lengths in sub-words, ends of sentence included."""

from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np
from fairseq.data import data_utils

from ..common.errors import UserError

__all__ = ["equal", "histogram", "multi30k", "of_data", "pairs"]

Pairs = np.ndarray
"""(sentences, 2) whole numbers: a sentence pair's source and target length."""


def histogram(lengths: Iterable[Iterable[int]]) -> str:
    """A line for every source length: it, and ``target length:pairs`` for every target length beside it."""
    rows: dict[int, list[str]] = {}
    for (source, target), count in sorted(Counter(map(tuple, lengths)).items()):
        rows.setdefault(source, []).append(f"{target}:{count}")
    return "".join(f"{source} {' '.join(row)}\n" for source, row in rows.items())


def pairs(text: str) -> Pairs:
    """What :func:`histogram` counted, sorted."""
    found = []
    for line in text.splitlines():
        source, *cells = line.split()
        for cell in cells:
            target, count = cell.split(":")
            found += [(int(source), int(target))] * int(count)
    return np.array(found)


def multi30k() -> Pairs:
    """The 29,000 training pairs of Multi30k en→de as the recipe multi30k-en-de splits them."""
    return pairs(files(__package__).joinpath("multi30k.txt").read_text("ascii"))


def of_data(folder: Path) -> Pairs:
    """The training pairs of binarised data.

    Raises:
        UserError: where the folder has none.
    """
    source, target = data_utils.infer_language_pair(folder) if folder.is_dir() else (None, None)
    if source is None:
        raise UserError(f"--data {folder}: no binarised sentence pairs in this folder")
    sizes = []
    for language in (source, target):
        side = data_utils.load_indexed_dataset(f"{folder}/train.{source}-{target}.{language}")
        if side is None:
            raise UserError(f"--data {folder}: no training data {source}-{target} in this folder")
        sizes.append(np.array(side.sizes))  # a copy: the file is closed together with its dataset
    return np.stack(sizes, 1)


def equal(length: int, sentences: int) -> Pairs:
    """Pairs that all have one length on both sides."""
    return np.full((sentences, 2), length)
