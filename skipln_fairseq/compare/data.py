"""The data of a comparison."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..runs.settings import Flags

__all__ = ["Data", "file_name"]


def file_name(name: str) -> str:
    """A name as a part of a file's or folder's."""
    return re.sub(r"[^\w.+-]+", "_", name)


@dataclass(frozen=True)
class Data:
    """What models are trained on.

    Args:
        name: as the report calls it.
        path: the first argument of fairseq-train.
        files: what the measure wants besides, by the names in the grid.
        train: flags of fairseq-train for these data.
    """

    name: str
    path: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    train: Flags = field(default_factory=dict)

    @cached_property
    def content(self) -> str:
        """A fingerprint of all files but logs; read once."""
        digest = hashlib.sha256()
        for file in sorted(self.path.rglob("*")):
            if file.is_file() and file.suffix != ".log":
                with file.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
                digest.update(f"{file.relative_to(self.path).as_posix()} {content}\n".encode())
        return digest.hexdigest()
