"""What the index (``.idx``) of binarised text states, compared with itself and with the words (``.bin``) beside it.

All checks run over whole arrays, a part at a time: no index, however large, is in memory as a whole.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fairseq.data.indexed_dataset import IndexedDataset, MMapIndexedDataset, _code_to_dtype

from skipln_fairseq.common.errors import UserError

__all__ = ["Index", "check_sentences", "check_words", "read_index"]

VERSION = 1
CHUNK = 1 << 20  # numbers that are looked at together
LENGTH, PLACE = np.dtype("<i4"), np.dtype("<i8")
MEMORY_MAPPED = struct.Struct("<9sQBQ")  # magic, version, type of the words, sentences
# magic, version, type of the words, bytes of one, sentences, dimensions of all of them
TORCHNET = struct.Struct("<8sQQQQQ")


@dataclass(frozen=True)
class Index:
    """A header that makes sense, of a file that is as long as it says.

    Args:
        path: of the files, without their endings.
        dtype: of a word.
        sentences: how many.
        lengths: where in the index the number of words of each begins, and the type of such a number.
        places: the same of where each begins.
        unit: what the place grows by with each word.
    """

    path: str
    dtype: np.dtype
    sentences: int
    lengths: tuple[int, np.dtype]
    places: tuple[int, np.dtype]
    unit: int

    @property
    def file(self) -> Path:
        """The index itself."""
        return Path(self.path + ".idx")

    @property
    def data(self) -> Path:
        """The words."""
        return Path(self.path + ".bin")

    def parts(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Number of the first sentence, lengths and places, of some sentences at a time."""
        lengths, places = (
            np.memmap(self.file, kind, "r", start, self.sentences)
            for start, kind in (self.lengths, self.places)
        )
        for start in range(0, self.sentences, CHUNK):
            part = slice(start, start + CHUNK)
            yield start, lengths[part].astype(np.int64), places[part].astype(np.int64)


def read_index(path: str, impl: str) -> Index:
    """The header of the index at *path*, for fairseq's ``--dataset-impl`` *impl*: mmap, lazy or cached.

    Raises:
        UserError: the header is none, or of something unknown, or the file is shorter or longer than it says.
    """
    layout = MEMORY_MAPPED if impl == "mmap" else TORCHNET
    magic = (MMapIndexedDataset.Index if impl == "mmap" else IndexedDataset)._HDR_MAGIC
    file = Path(path + ".idx")
    with file.open("rb") as stream:
        header = stream.read(layout.size)
    if len(header) < layout.size or not header.startswith(magic):
        raise UserError(f"{file} is no index of --dataset-impl {impl}, or cut short: preprocess again")
    _, version, code, *more, count = layout.unpack(header)
    if version != VERSION:
        raise UserError(f"{file} is of version {version}, and only {VERSION} is known: preprocess again")
    dtype = np.dtype(_code_to_dtype.get(code, np.void))
    if not np.issubdtype(dtype, np.integer):
        raise UserError(f"{file} has words of the unknown type {code}, no whole numbers: preprocess again")
    if impl == "mmap":
        places = layout.size + count * LENGTH.itemsize
        _refuse_other_size(file, places + count * PLACE.itemsize)
        return Index(path, dtype, count, (layout.size, LENGTH), (places, PLACE), dtype.itemsize)
    return _torchnet(path, dtype, *more, count)


def _torchnet(path: str, dtype: np.dtype, width: int, sentences: int, dimensions: int) -> Index:
    """Three lists follow: each sentence's place among the lengths, its place among the words, the lengths."""
    file = Path(path + ".idx")
    if width != dtype.itemsize:
        raise UserError(f"{file} has words of {width} bytes instead of {dtype.itemsize}: preprocess again")
    places = TORCHNET.size + (sentences + 1) * PLACE.itemsize
    lengths = places + (sentences + 1) * PLACE.itemsize
    _refuse_other_size(file, lengths + dimensions * PLACE.itemsize)
    numbers = np.memmap(file, PLACE, "r", TORCHNET.size, sentences + 1)
    for start in range(0, sentences + 1, CHUNK):
        part = numbers[start : start + CHUNK]
        if not np.array_equal(part, np.arange(start, start + len(part))):
            raise UserError(f"{file} is not of text, a sentence at a time: preprocess again")
    return Index(path, dtype, sentences, (lengths, PLACE), (places, PLACE), 1)


def check_sentences(index: Index) -> None:
    """Compare lengths, places and the number of bytes in ``.bin``: sentences follow each other without gaps.

    Raises:
        UserError: one of them does not fit, or there is no sentence, or no word.
    """
    if index.sentences == 0:
        raise UserError(f"{index.data} holds no sentences")
    end = 0
    for first, lengths, places in index.parts():
        if (wrong := np.flatnonzero(lengths < 0)).size:
            number, length = first + wrong[0] + 1, lengths[wrong[0]]
            raise UserError(f"{index.file}: sentence {number} has {length} words: preprocess again")
        ends = end + np.cumsum(lengths * index.unit)
        begins = ends - lengths * index.unit
        if (wrong := np.flatnonzero(places != begins)).size:
            number, place, expected = first + wrong[0] + 1, places[wrong[0]], begins[wrong[0]]
            raise UserError(
                f"{index.file}: sentence {number} begins at {place}, though those before it end at {expected}: "
                "preprocess again"
            )
        end = int(ends[-1])
    _refuse_other_size(index.data, end // index.unit * index.dtype.itemsize)
    if end == 0:
        raise UserError(f"{index.data} holds no words")


def check_words(index: Index, first: int, words: int) -> None:
    """Compare all words in ``.bin`` with the dictionary's number of *words*, where *first* stands for its first one.

    Raises:
        UserError: a word is none of them.
    """
    with index.data.open("rb") as stream:
        while (part := np.fromfile(stream, index.dtype, CHUNK)).size:
            for word in (int(part.min()), int(part.max())):
                if not first <= word < first + words:
                    raise UserError(
                        f"{index.data} holds the word {word - first}, but the dictionary has {words} words, from 0 "
                        "on: preprocess again, or use the dictionary that it was made with"
                    )


def _refuse_other_size(file: Path, stated: int) -> None:
    """Refuse *file* if it does not have as many bytes as its index states."""
    if file.stat().st_size != stated:
        raise UserError(f"{file} has {file.stat().st_size} bytes instead of {stated}: preprocess again")
