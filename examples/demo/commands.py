"""Running fairseq's commands: printed to be copied, logged to a file, watched while they run."""

import shlex
from collections.abc import Callable
from pathlib import Path

from skipln_fairseq import runs

__all__ = ["USER_DIR", "path", "run"]

REPOSITORY = Path(__file__).resolve().parents[2]
USER_DIR = "skipln_fairseq"  # relative to the repository, where the commands run


def path(file: Path) -> str:
    """``file`` as a command in the repository would call it."""
    file = file.resolve()
    return str(file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else file)


def run(
    command: list[str],
    log: Path,
    say: Callable[[str], None],
    on_line: Callable[[str], None] = lambda line: None,
    keep_open: tuple[int, ...] = (),
) -> None:
    """Run ``command`` in the repository; append its output to ``log``, give it to ``on_line`` by line.

    ``keep_open``: file descriptors that the command inherits.

    Raises:
        UserError: the command failed; its last lines have been shown.
    """
    say("$ " + shlex.join(command))
    try:
        runs.run(command, log, on_line, cwd=REPOSITORY, keep_open=keep_open)
    except runs.CommandFailed as failed:
        for line in failed.last:
            say(f"  {line}")
        raise
