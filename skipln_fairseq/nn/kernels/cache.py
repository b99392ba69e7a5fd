"""The user's cache of compiled libraries: nothing damaged is loaded, and nothing that others may have put there.

A file is named NAME-DIGEST.so after its own content, so one that a full or failing disk has cut short is known before
it is loaded, which would kill the process.
"""

import ctypes
import functools
import hashlib
import logging
import os
import stat
import tempfile
import time
from pathlib import Path

__all__ = ["keep", "load"]

logger = logging.getLogger(__name__)

DAY = 24 * 3600


def load(name: str) -> ctypes.CDLL | None:
    """The library kept under a name; None where there is none that is whole, this user's own and fit to be loaded."""
    try:
        files = list(_folder().glob(f"{name}-*.so"))
    except (OSError, RuntimeError):
        return None
    return next((library for library in map(_loaded, files) if library is not None), None)


def keep(name: str, library: bytes) -> None:
    """Keep a library under a name, or warn, once, that the cache cannot be used."""
    try:
        folder = _folder()
        _remove_leftovers(folder)
        _write(folder / f"{name}-{_digest(library)}.so", library)
    except (OSError, RuntimeError) as error:
        _warn(str(error))


@functools.cache
def _warn(why: str) -> None:
    logger.warning(f"each process compiles the kernels for itself, without a cache: {why}")


def _folder() -> Path:
    """The cache, made if need be.

    Raises:
        OSError: where it cannot be made, or others may write to it.
        RuntimeError: where the user has no home.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "skipln_fairseq"
    folder = folder.resolve()
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(0o700, exist_ok=True)
    if not _is_private(folder.stat()):
        raise PermissionError(f"{folder} belongs to another user, or others may write to it")
    for parent in folder.parents:  # who may write there can put another folder in this one's place
        mode = parent.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            raise PermissionError(f"others may write to {parent}")
    return folder


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _loaded(file: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(file)) if _is_whole(file) else None
    except OSError:
        return None


def _is_whole(file: Path) -> bool:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or not _is_private(status):
        return False
    return _digest(file.read_bytes()) == file.stem.rpartition("-")[2]


def _digest(library: bytes) -> str:
    return hashlib.sha256(library).hexdigest()


def _write(place: Path, content: bytes) -> None:
    """Readable and writable by this user only, and at once: of several processes none sees half a file."""
    descriptor, beside = tempfile.mkstemp(".partial", f".{place.stem}-", place.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, place)
    finally:
        Path(beside).unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """What killed processes were writing."""
    for file in folder.glob(".*.partial"):
        if file.lstat().st_mtime < time.time() - DAY:
            file.unlink(missing_ok=True)
