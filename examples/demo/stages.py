"""Work that is done once: each stage fills a folder, and marks it when it is complete.

A folder's name ends in a fingerprint of everything that shaped its content, the earlier stages included. So a
second run finds what is there, and other flags make other folders: nothing ever is out of date.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skipln_fairseq.errors import UserError

__all__ = ["Stages", "locked"]

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
        part = complete.with_suffix(".part")
        part.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", "utf-8")
        part.rename(complete)
        return folder, False


@contextmanager
def locked(work_dir: Path) -> Iterator[int]:
    """Keep a second demo out of ``work_dir``. Gives the lock's file descriptor: heirs share the lock.

    Raises:
        UserError: another process holds the lock, or the folder cannot be made.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock = (work_dir / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"--work-dir {work_dir}: {error.strerror}; give a folder that can be written"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another demo, or the end of an interrupted one, is at work in {work_dir}: "
                "wait for it or give another --work-dir"
            ) from error
        yield lock.fileno()
