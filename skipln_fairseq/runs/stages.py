"""Work that is done once: each stage fills a folder, and marks it when it is complete.

A folder's name ends in a fingerprint of everything that shaped its content, the earlier stages included. So a
second run finds what is there, and other flags make other folders: nothing ever is out of date.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..common.files import flush, write_text

__all__ = ["Stages"]

# Raise it when a stage's code changes what it writes: then folders of older versions are left alone.
FORMAT = 1
COMPLETE = "complete.json"  # holds the settings, for who looks into the folder


class Stages:
    """The stages of one run, in ``work_dir``. Each stage depends on all that ran before it."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self._settings: list[Any] = [FORMAT]

    def run(
        self, name: str, settings: dict[str, Any], build: Callable[[Path], None], resumable: bool = False
    ) -> tuple[Path, bool]:
        """Return the stage's folder and whether it was complete already; else let ``build`` fill it.

        What an interrupted run left is removed, unless the stage is ``resumable``: then ``build`` goes on
        with it.
        """
        self._settings.append([name, settings])
        everything = json.dumps(self._settings, sort_keys=True)
        folder = self.work_dir / f"{name}-{hashlib.sha256(everything.encode()).hexdigest()[:8]}"
        complete = folder / COMPLETE
        if complete.is_file():
            return folder, True
        if not resumable:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        build(folder)
        flush(folder)
        write_text(complete, json.dumps(settings, indent=1, sort_keys=True) + "\n")
        return folder, False
