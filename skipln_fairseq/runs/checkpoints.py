"""What an interrupted training leaves."""

import os
import zipfile
from pathlib import Path

__all__ = ["remove_damaged"]


def remove_damaged(folder: Path) -> None:
    """Take away checkpoints that were half written when the power went.

    A checkpoint is a zip file, whose table of contents comes last: without it, it is cut off. If the last
    one is, the newest of the others takes its place.
    """
    intact = []
    for file in folder.glob("checkpoint*.pt"):
        if zipfile.is_zipfile(file):
            intact.append(file)
        else:
            file.unlink(missing_ok=True)  # several nodes look into the same folder
    last = folder / "checkpoint_last.pt"
    if intact and last not in intact:
        newest = max(intact, key=lambda file: file.stat().st_mtime)
        copy = last.with_suffix(f".{os.getpid()}.copy")
        copy.write_bytes(newest.read_bytes())
        copy.rename(last)
