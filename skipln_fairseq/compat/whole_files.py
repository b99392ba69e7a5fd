"""What fairseq writes is whole or not there, whenever it is killed.

Without it ``checkpoint_best.pt`` and ``checkpoint_last.pt`` are copied in place, so that a kill leaves half a
checkpoint, and a power cut or a full disk may damage any file. fairseq tries three times to save a checkpoint, each
time behind what it has written before, which gives a damaged file: here it tries once, and the older file stays.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.binarizer import FileBinarizer
from fairseq.data import Dictionary
from fairseq.file_io import PathManager

from skipln_fairseq.compat.patch import around
from skipln_fairseq.files import scratch, whole, write_all

__all__ = ["apply"]


def apply() -> None:
    """Write beside and move. The trainer saves with ``torch_persistent_save`` and has ``PathManager`` copy to the other
    names; ``fairseq-preprocess`` saves dictionaries and has ``FileBinarizer`` write the rest.
    """

    @around(checkpoint_utils, "torch_persistent_save")
    def torch_persistent_save(stock, obj: Any, filename: str, async_write: bool = False) -> None:
        if async_write or not PathManager.supports_rename(filename):
            stock(obj, filename, async_write)
            return
        with whole(Path(filename)) as beside, beside.open("wb") as file:
            torch.save(obj, file)

    @around(PathManager, "copy")
    def copy(stock, src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if not overwrite or not all(map(PathManager.supports_rename, (src_path, dst_path))):
            return stock(src_path, dst_path, overwrite)
        with whole(Path(dst_path)) as beside:
            shutil.copyfile(src_path, beside)
        return True

    @around(Dictionary, "save")
    def save(stock, self: Dictionary, f: Any) -> None:
        if not isinstance(f, str) or not PathManager.supports_rename(f):
            stock(self, f)
            return
        file = Path(f)
        write_all(file.parent, {file.name: lambda beside: stock(self, str(beside))})

    @around(FileBinarizer, "multiprocess_dataset")
    def multiprocess_dataset(
        stock,
        input_file: str,
        dataset_impl: str,
        binarizer: Any,
        output_prefix: str,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        prefix = Path(output_prefix)
        with scratch(prefix) as folder:
            inside = folder / prefix.name
            summary = stock(input_file, dataset_impl, binarizer, str(inside), *args, **kwargs)
            write_all(prefix.parent, {file.name: file.replace for file in sorted(folder.iterdir())})
            return summary
