"""Running other programs: either a corpus can be fetched with them, or it is unavailable with a reason."""

import shutil
import subprocess
from pathlib import Path

from skipln_fairseq.common.errors import UserError

__all__ = ["CorpusUnavailable", "call"]


class CorpusUnavailable(UserError):
    """A corpus cannot be had on this machine, now: ``--corpus auto`` then takes the next one."""


def call(command: list[str], timeout: float, cwd: Path | None = None) -> str:
    """Standard output of ``command``, which gets ``timeout`` seconds.

    Raises:
        CorpusUnavailable: there is no such program, it fails or it takes too long.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise CorpusUnavailable(f"there is no {program} here")
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise CorpusUnavailable(f"{program} took longer than {timeout:.0f} s") from error
    if done.returncode:
        complaints = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        # The first error names the cause; apt and npm end with advice.
        errors = [line for line in complaints if line.startswith(("E:", "Err:", "npm error", "npm ERR!"))]
        reason = (errors or complaints or ["no message"])[0]
        raise CorpusUnavailable(f"{program} failed ({reason})")
    return done.stdout
