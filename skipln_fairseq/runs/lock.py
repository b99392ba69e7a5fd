"""One process at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import UserError

__all__ = ["locked"]


@contextmanager
def locked(work_dir: Path, who: str, shared: bool = False) -> Iterator[int]:
    """Keep a second process out of ``work_dir``. Gives the lock's file descriptor: heirs share the lock.

    A normal end frees the folder for all. After an exception the heirs keep the lock for as long as they live.

    Args:
        work_dir: is made if need be.
        who: works there, for the message to who must wait: "another demo".
        shared: others may work there too, if they also share it.

    Raises:
        UserError: another process holds the lock, the folder cannot be made, or fairseq could not be told of it.
    """
    if os.pathsep in str(work_dir):
        raise UserError(
            f"--work-dir {work_dir}: fairseq would read several paths: give one without {os.pathsep!r}"
        )
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock = (work_dir / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"--work-dir {work_dir}: {error.strerror}; give a folder that can be written"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another {who}, or the end of an interrupted one, is at work in {work_dir}: "
                "wait for it or give another --work-dir"
            ) from error
        yield lock.fileno()
        # Closing alone would leave the lock to the copy in a process that another thread starts at this moment.
        fcntl.flock(lock, fcntl.LOCK_UN)
