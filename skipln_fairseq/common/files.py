"""Whole files or none, whatever ends the process that writes them: an error, a kill, a full disk, a power cut."""

import errno
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError

__all__ = [
    "as_json",
    "check_file",
    "check_folder",
    "flush",
    "is_partial",
    "remove",
    "scratch",
    "whole",
    "write_all",
    "write_json",
    "write_text",
]

PARTIAL = ".{name}.{node}-{process}.partial"


def check_file(flag: str, file: Path) -> None:
    """Refuse, before hours of work, what cannot be the name of a new file.

    Raises:
        UserError: begins with the flag.
    """
    if file.is_dir():
        raise UserError(f"{flag} {file} is a folder: name a file in it")
    check_folder(flag, file.parent)


def check_folder(flag: str, folder: Path) -> None:
    """Refuse, before hours of work, a folder that cannot be made.

    Raises:
        UserError: begins with the flag.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            cause = "" if place == folder else f": {place}"
            raise UserError(f"{flag} {folder}{cause} is a file, and no folder")


@contextmanager
def whole(place: Path) -> Iterator[Path]:
    """Give a path beside ``place`` to write a file or a folder to, and move it there when the block has ended well.

    It is on the disk before it is moved, and the move is before the next thing is done: a power cut leaves the old
    file or the new one. What a killed process left beside the same place is removed.

    Raises:
        UserError: the system refuses to write, for instance because the disk is full. The old file is kept.
    """
    with _partial(place) as (beside, goal), _explained(place):
        yield beside
        flush(beside)
        _move([(beside, goal)])


@contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """Give a folder beside ``place`` that lasts as long as the block, for what writes more than one file.

    Raises:
        UserError: as above.
    """
    with _partial(place) as (folder, _), _explained(place):
        folder.mkdir()
        yield folder


def write_all(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> list[Path]:
    """Write files into a folder, which is made if need be: as :func:`whole`, and moved there all together.

    Args:
        folder: where.
        writers: for each file's name what writes it to a path.

    Raises:
        UserError: as above.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        moves = []
        for name, write in writers.items():
            beside, goal = stack.enter_context(_partial(folder / name))
            with _explained(folder / name):
                write(beside)
                flush(beside)
            moves.append((beside, goal))
        with _explained(folder):
            _move(moves)
    return [folder / name for name in writers]


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text, as above."""
    write_all(file.parent, {file.name: lambda beside: beside.write_text(text, "utf-8")})


def write_json(file: Path, content: Any) -> None:
    """Write ``content`` as JSON, as above."""
    write_text(file, as_json(content))


def as_json(content: Any) -> str:
    """JSON whose versions can be compared by line."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def is_partial(path: Path, of: str) -> bool:
    """Whether a process began to write ``path`` to move it to a file whose name matches the pattern ``of``."""
    return bool(re.fullmatch(rf"\.(?:{of})\..+-\d+\.partial", path.name))


def flush(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk. Pipes and devices have nothing there."""
    for each in (*path.rglob("*"), path):
        if each.is_file() or each.is_dir():
            _flush(each)


def remove(path: Path) -> None:
    """Remove a file or a folder, which another process may have removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _partial(place: Path) -> Iterator[tuple[Path, Path]]:
    """Where to write, and where to move it: what ``place`` links to. What is not moved is removed."""
    if place.exists() and not place.is_file() and not place.is_dir():
        yield place, place  # a pipe, or /dev/null: nothing can take its place
        return
    goal = Path(os.path.realpath(place))
    _remove_leftovers(goal)
    beside = goal.with_name(PARTIAL.format(name=goal.name, node=platform.node(), process=os.getpid()))
    try:
        yield beside, goal
    finally:
        remove(beside)


def _remove_leftovers(goal: Path) -> None:
    """Remove what others began to write for this place, on this machine, and did not live to end."""
    start, end = PARTIAL.format(name=goal.name, node=platform.node(), process="\0").split("\0")
    for found in goal.parent.iterdir() if goal.parent.is_dir() else ():
        process = found.name.removeprefix(start).removesuffix(end)
        if found.name == f"{start}{process}{end}" and process.isdecimal() and not _lives(int(process)):
            remove(found)


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False  # an earlier one of the same number: in a container they begin at 1
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _move(moves: list[tuple[Path, Path]]) -> None:
    """Put files in their places, and wait until that is on the disk. A pipe is in its place."""
    moves = [(beside, goal) for beside, goal in moves if beside != goal]
    for beside, goal in moves:
        beside.replace(goal)
    for folder in {goal.parent for _, goal in moves}:
        _flush(folder)


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Say in one line why ``place`` cannot be written, or what else the system refused meanwhile."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch turns a write that failed into an error of its own
        cause: BaseException | None = error
        while cause and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        named = str(cause.filename or place)
        raise UserError(
            f"{place if named.endswith('.partial') else named}: {cause.strerror or cause}"
        ) from error


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems know none of it for folders, nor do devices
            raise
    finally:
        os.close(opened)
