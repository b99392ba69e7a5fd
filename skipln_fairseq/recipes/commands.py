"""fairseq's commands, printed to be copied."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from .. import runs

__all__ = ["USER_DIR", "run"]

PLUGIN = Path(__file__).resolve().parents[1]
USER_DIR = os.path.relpath(PLUGIN) if Path.cwd().is_relative_to(PLUGIN.parent) else str(PLUGIN)


def run(
    command: list[str],
    log: Path,
    say: Callable[[str], None],
    on_line: Callable[[str], None] = lambda line: None,
    environment: dict[str, str] | None = None,
    on_start: Callable[[subprocess.Popen], None] = lambda process: None,
) -> None:
    """Run and log a command; if it fails, its last lines are said.

    Raises:
        UserError: it failed.
    """
    say("$ " + shlex.join(command))
    try:
        runs.run(command, log, on_line, environment=environment, on_start=on_start)
    except runs.CommandFailed as failed:
        for line in failed.last:
            say(f"  {line}")
        raise
