"""Running fairseq's commands: printed to be copied, logged to a file, watched while they run."""

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from skipln_fairseq.errors import UserError

__all__ = ["USER_DIR", "path", "run"]

REPOSITORY = Path(__file__).resolve().parents[2]
USER_DIR = "skipln_fairseq"  # relative to the repository, where the commands run
LAST_LINES = 12
# With this torchrun begins a page on how it ended its processes; what ended them stands before.
LAUNCHERS_OBITUARY = re.compile(r"torch/distributed/elastic/.*(closing signal|failed \(exitcode)")


def path(file: Path) -> str:
    """``file`` as a command in the repository would call it."""
    file = file.resolve()
    return str(file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else file)


def _end_with_parent() -> None:
    """Have Linux end this process when the demo is killed so hard that it cannot clean up itself."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


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
    environment = os.environ | {
        # The commands of this Python's environment, also if it is not activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",  # processes share the cores, see training.train
        "PYTHONUNBUFFERED": "1",
        # glibc gives a freed logits tensor back to the system and asks for it again at every update;
        # kept, it saves an eighth of the CPU time (README, "Speed").
        "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        "PYTHONWARNINGS": "ignore",
    }
    last: deque[str] = deque(maxlen=LAST_LINES)
    launcher_speaks = False
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
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
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                launcher_speaks = launcher_speaks or bool(LAUNCHERS_OBITUARY.search(line))
                if not launcher_speaks:
                    last.append(line.rstrip("\n"))
                on_line(line)
        except BaseException:  # an interruption too: nothing goes on behind the user's back
            process.terminate()
            raise
    if process.returncode:
        for line in last:
            say(f"  {line}")
        raise UserError(f"{command[0]} failed (exit status {process.returncode}); its whole log: {log}")
