"""One command: logged to a file, watched while it runs, measured, and ended with who runs it."""

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ..common.errors import UserError

__all__ = ["CommandFailed", "Usage", "run"]

LAST_LINES = 12
# With this torchrun begins a page on how it ended its processes; what ended them stands before.
LAUNCHERS_OBITUARY = re.compile(r"torch/distributed/elastic/.*(closing signal|failed \(exitcode)")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # several commands share the cores
    "PYTHONUNBUFFERED": "1",
    # glibc gives a freed logits tensor back to the system and asks for it again at every update;
    # kept, it saves an eighth of the CPU time (examples/demo/README.md).
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "PYTHONWARNINGS": "ignore",
}
PR_SET_PDEATHSIG = 1
# loaded here: between fork and exec nothing should be
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class CommandFailed(UserError):
    """A command ended with another status than 0; ``last`` are the last lines that it printed."""

    def __init__(self, message: str, last: Sequence[str]):
        super().__init__(message)
        self.last = tuple(last)

    @property
    def reason(self) -> str:
        """The last line that says something: of a traceback the error, of other commands their message."""
        return next((line.strip() for line in reversed(self.last) if line.strip()), "no output")


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds by the clock and of its processors, and its largest process, resident, in bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def _end_with_parent() -> None:
    """Have Linux end this process when its parent is killed so hard that it cannot clean up itself."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run(
    command: Sequence[str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    keep_open: tuple[int, ...] = (),
    on_start: Callable[[subprocess.Popen], None] = lambda process: None,
) -> Usage:
    """Run ``command``; append its output to ``log``, give it to ``on_line`` by line.

    Args:
        cwd: folder to run in (default: the current one).
        environment: variables beside the present ones.
        keep_open: file descriptors that the command inherits.
        on_start: gets the process, to end it from elsewhere.

    Raises:
        CommandFailed: for another exit status than 0.
    """
    everything = {
        **os.environ,
        # the commands of this Python's environment, also if it is not activated
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        **ENVIRONMENT,
        **(environment or {}),
    }
    last: deque[str] = deque(maxlen=LAST_LINES)
    launcher_speaks = False
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    _end_last_line(log)
    with (
        log.open("ab", buffering=0) as file,  # nothing is left to write when it is closed
        subprocess.Popen(
            command,
            cwd=cwd,
            env=everything,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            pass_fds=keep_open,
            preexec_fn=_end_with_parent,
        ) as process,
    ):
        on_start(process)
        try:
            for line in process.stdout:
                _write(file, line)
                launcher_speaks = launcher_speaks or bool(LAUNCHERS_OBITUARY.search(line))
                if not launcher_speaks:
                    last.append(line.rstrip("\n"))
                on_line(line)
            usage = _reap(process)
        except BaseException:  # an interruption too: nothing goes on behind the user's back
            process.terminate()
            raise
    if process.returncode:
        raise CommandFailed(
            f"{command[0]} failed (exit status {process.returncode}); its whole log: {log}", last
        )
    return Usage(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT)


def _write(file: FileIO, line: str) -> None:
    try:
        file.write(line.encode("utf-8"))
    except OSError as error:
        raise UserError(f"cannot write {file.name}: {error.strerror}") from error


def _end_last_line(log: Path) -> None:
    """A killed process may have left a part of a line, which the next one would make longer."""
    if log.is_file() and log.stat().st_size:
        with log.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _reap(process: subprocess.Popen) -> resource.struct_rusage:
    """Wait for the end, as ``process.wait()``, and get what was used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage
