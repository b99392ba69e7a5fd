"""Whole files or none."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .errors import UserError

__all__ = ["as_json", "write_all", "write_json", "write_text"]


def write_all(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> list[Path]:
    """Write files into a folder, which is made if need be: beside their places, then moved there all together.

    Args:
        folder: where.
        writers: for each file's name what writes it to a path.

    Raises:
        UserError: where the folder cannot be written to.
    """
    partial = {folder / name: folder / f".{name}.{os.getpid()}.partial" for name in writers}
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for beside, write in zip(partial.values(), writers.values(), strict=True):
                stack.callback(beside.unlink, missing_ok=True)
                write(beside)
            for place, beside in partial.items():
                beside.replace(place)
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}") from error
    return list(partial)


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text, as above."""
    write_all(file.parent, {file.name: lambda beside: beside.write_text(text, "utf-8")})


def write_json(file: Path, content: Any) -> None:
    """Write ``content`` as JSON, as above."""
    write_text(file, as_json(content))


def as_json(content: Any) -> str:
    """JSON whose versions can be compared by line."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
