"""A data folder that is half written, cut short or mismatched ends a command in one line.

fairseq maps the files into memory and trusts them: what is missing shows up as a traceback, an index error
in the middle of an epoch, or garbage sentences.
"""

import re
import struct
from collections.abc import Sized
from pathlib import Path
from typing import Any

from fairseq.data import FairseqDataset, data_utils, indexed_dataset
from fairseq.data.indexed_dataset import IndexedDataset
from fairseq.tasks import FairseqTask

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.index import check_sentences, check_words, read_index
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Check files when fairseq looks for them and before it maps them, and that there are targets.

    Its tasks go through ``indexed_dataset.dataset_exists`` and ``data_utils.load_indexed_dataset``, which
    calls ``indexed_dataset.make_dataset``.
    """
    checked: set[str] = set()

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
    def make_dataset(
        stock, path: str, impl: str, fix_lua_indexing: bool = False, dictionary: Sized | None = None
    ) -> Any:
        check_pair_of_files(path)
        if impl in ("mmap", "lazy", "cached") and IndexedDataset.exists(path):
            check_contents(path, impl, fix_lua_indexing, dictionary)
            checked.update({path + ".idx", path + ".bin"})
        try:
            return stock(path, impl, fix_lua_indexing, dictionary)
        except (AssertionError, ValueError, LookupError, struct.error) as error:
            raise UserError(f"{path} cannot be read with --dataset-impl {impl}: preprocess again") from error

    @around(indexed_dataset, "_warmup_mmap_file")
    def warm_up(stock, file: str) -> None:
        if file not in checked:  # what was is in the memory of the system already, as far as it fits
            stock(file)

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


def check_contents(path: str, impl: str, fix_lua_indexing: bool, dictionary: Sized | None) -> None:
    """Refuse what does not fit the index of *path*: itself, its words, the dictionary, or the other side's count."""
    index = read_index(path, impl)
    check_sentences(index)
    if dictionary is not None:
        check_words(index, int(fix_lua_indexing and impl != "mmap"), len(dictionary))
    other = other_side(path)
    if other and indexed_dataset.infer_dataset_impl(other) == indexed_dataset.infer_dataset_impl(path):
        count = read_index(other, impl).sentences
        if count != index.sentences:
            raise UserError(
                f"{path} holds {index.sentences} sentences, but {other} {count}: preprocess again"
            )


def other_side(path: str) -> str | None:
    """``…/train.en-de.de`` for ``…/train.en-de.en`` and the other way round; ``None`` without a pair."""
    name = re.fullmatch(r"(.*\.)([^.-]+)-([^.-]+)\.([^.-]+)", path)
    if not name or name[4] not in (name[2], name[3]):
        return None
    other = name[3] if name[4] == name[2] else name[2]
    return f"{name[1]}{name[2]}-{name[3]}.{other}"
