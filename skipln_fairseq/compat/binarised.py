"""A data folder that is half written, cut short or mismatched ends a command in one line.

fairseq maps the files into memory and trusts them: what is missing shows up as a traceback, an index error
in the middle of an epoch, or garbage sentences.
"""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset, data_utils, indexed_dataset
from fairseq.data.indexed_dataset import MMapIndexedDataset
from fairseq.tasks import FairseqTask

from skipln_fairseq.compat.patch import around
from skipln_fairseq.errors import UserError

__all__ = ["apply"]

MAGIC = MMapIndexedDataset.Index._HDR_MAGIC
HEADER = struct.Struct(f"<{len(MAGIC)}sQBQ")  # magic, version, code of the data type, number of sentences
PER_SENTENCE = np.dtype(np.int32).itemsize + np.dtype(np.int64).itemsize  # its length, its place in .bin


def apply() -> None:
    """Check files when fairseq looks for them and before it maps them, and that there are targets.

    Its tasks go through ``indexed_dataset.dataset_exists`` and ``data_utils.load_indexed_dataset``, which
    calls ``indexed_dataset.make_dataset``.
    """

    @around(data_utils, "infer_language_pair")
    def infer_language_pair(stock, path: str) -> tuple[str, str]:
        source, target = stock(path)
        if source is None:
            raise UserError(f"{path} holds no data of a language pair: no file named like train.en-de.en.idx")
        return source, target

    @around(indexed_dataset, "dataset_exists")
    def dataset_exists(stock, path: str, impl: str | None) -> bool:
        check_pair_of_files(path)
        return stock(path, impl)

    @around(indexed_dataset, "make_dataset")
    def make_dataset(stock, path: str, impl: str, *args: Any, **kwargs: Any) -> Any:
        check_pair_of_files(path)
        if impl == "mmap" and MMapIndexedDataset.exists(path):
            sentences = check_sizes(path)
            other = other_side(path)
            if other and MMapIndexedDataset.exists(other) and (count := check_sizes(other)) != sentences:
                raise UserError(f"{path} holds {sentences} sentences, but {other} {count}: preprocess again")
        return stock(path, impl, *args, **kwargs)

    @around(FairseqTask, "build_criterion")
    def build_criterion(stock, self: FairseqTask, *args: Any, **kwargs: Any) -> Any:
        self.compares_with_targets = True  # training or validation, not translation
        return stock(self, *args, **kwargs)

    @around(FairseqTask, "dataset")
    def dataset(stock, self: FairseqTask, split: str) -> FairseqDataset:
        found = stock(self, split)
        if getattr(self, "compares_with_targets", False) and getattr(found, "tgt", found) is None:
            raise UserError(f"the {split} data have no target side, which training and validation need")
        return found


def check_pair_of_files(path: str) -> None:
    """Refuse an index without data and data without an index."""
    there = {end: Path(path + end).exists() for end in (".idx", ".bin")}
    if there[".idx"] != there[".bin"]:
        missing = path + (".bin" if there[".idx"] else ".idx")
        raise UserError(f"{missing} is missing, though its other half is there: preprocess again")


def check_sizes(path: str) -> int:
    """Number of sentences in the memory-mapped data at *path*; refuse files shorter or longer than stated."""
    index, data = Path(path + ".idx"), Path(path + ".bin")
    with index.open("rb") as stream:
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(MAGIC):
            raise UserError(f"{index} is no index, or cut short: preprocess again")
        _, _, code, sentences = HEADER.unpack(header)
        if sentences == 0:
            raise UserError(f"{data} holds no sentences")
        refuse_other_size(index, HEADER.size + sentences * PER_SENTENCE)
        stream.seek(HEADER.size + (sentences - 1) * np.dtype(np.int32).itemsize)
        (last_length,) = struct.unpack("<i", stream.read(4))
        stream.seek(-8, 2)
        (last_place,) = struct.unpack("<q", stream.read(8))
    refuse_other_size(data, last_place + last_length * indexed_dataset._code_to_dtype[code]().itemsize)
    return sentences


def refuse_other_size(file: Path, stated: int) -> None:
    """Refuse *file* if it does not have as many bytes as its index states."""
    if file.stat().st_size != stated:
        raise UserError(f"{file} has {file.stat().st_size} bytes instead of {stated}: preprocess again")


def other_side(path: str) -> str | None:
    """``…/train.en-de.de`` for ``…/train.en-de.en`` and the other way round; ``None`` without a pair."""
    name = re.fullmatch(r"(.*\.)([^.-]+)-([^.-]+)\.([^.-]+)", path)
    if not name or name[4] not in (name[2], name[3]):
        return None
    other = name[3] if name[4] == name[2] else name[2]
    return f"{name[1]}{name[2]}-{name[3]}.{other}"
