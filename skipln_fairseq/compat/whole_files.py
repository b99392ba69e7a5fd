"""A checkpoint is whole or not there, whenever the training is killed.

Without it ``checkpoint_best.pt`` and ``checkpoint_last.pt`` are copied in place, so that a kill leaves half a
checkpoint, and a power cut or a full disk may damage any file. fairseq tries three times to save a checkpoint, each
time behind what it has written before, which gives a damaged file: here it tries once, and the older file stays.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from skipln_fairseq.common.files import whole
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Write beside and move. The trainer saves with ``torch_persistent_save``, and has ``PathManager`` copy to the
    other names.
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
