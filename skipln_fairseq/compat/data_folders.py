"""A data folder is complete once it has its dictionaries, whenever ``fairseq-preprocess`` is killed.

Without it the dictionaries come first: a kill leaves a folder that looks finished, and that ``fairseq-preprocess``
refuses to fill, for its dictionary exists already. Of two dictionaries one moves before the other: a kill between these
two moves still leaves one, which the next start refuses, saying what to remove.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from fairseq.binarizer import FileBinarizer
from fairseq.data import Dictionary
from fairseq.file_io import PathManager

from skipln_fairseq.common.files import scratch, write_all
from skipln_fairseq.compat.patch import around, command

__all__ = ["apply"]

# where the running command is to write
BESIDE: ContextVar[Callable[[Path], Path] | None] = ContextVar("BESIDE", default=None)


def apply() -> None:
    """Have ``fairseq-preprocess`` write beside its folder's files, and move them all when it has ended well.

    It writes with ``Dictionary.save`` and ``FileBinarizer``. Where these are called by something else, what one call
    writes is moved when it ends.
    """
    for module in command("fairseq_cli.preprocess"):
        _whole_folders(module)

    @around(Dictionary, "save")
    def save(stock, self: Dictionary, f: Any) -> None:
        if not isinstance(f, str) or not PathManager.supports_rename(f):
            stock(self, f)
            return
        with _apart(Path(f)) as beside:
            stock(self, str(beside))

    @around(FileBinarizer, "multiprocess_dataset")
    def multiprocess_dataset(
        stock,
        cls: type[FileBinarizer],
        input_file: str,
        dataset_impl: str,
        binarizer: Any,
        output_prefix: str,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        with _apart(Path(output_prefix)) as beside:
            return stock(cls, input_file, dataset_impl, binarizer, str(beside), *args, **kwargs)


def _whole_folders(module: ModuleType) -> None:
    @around(module, "main")
    def main(stock, args: Any) -> None:
        with _moved_at_the_end() as beside:
            before = BESIDE.set(beside)
            try:
                stock(args)
            finally:
                BESIDE.reset(before)


@contextmanager
def _apart(place: Path) -> Iterator[Path]:
    """Give what to write to in the place of ``place``, which may be what the names of several files begin with."""
    if beside := BESIDE.get():
        yield beside(place)
        return
    with _moved_at_the_end() as beside:
        yield beside(place)


@contextmanager
def _moved_at_the_end() -> Iterator[Callable[[Path], Path]]:
    """Give a function that answers where to write; all that was written is moved when the block has ended well."""
    apart: dict[Path, Path] = {}
    with ExitStack() as stack:

        def beside(place: Path) -> Path:
            if place.parent not in apart:
                place.parent.mkdir(parents=True, exist_ok=True)
                apart[place.parent] = stack.enter_context(scratch(place.parent / "data"))
            return apart[place.parent] / place.name

        yield beside
        for folder, made in apart.items():
            dictionaries = set(made.glob("dict.*txt"))
            for files in (set(made.iterdir()) - dictionaries, dictionaries):  # with these it is complete
                write_all(folder, {file.name: file.replace for file in sorted(files)})
