"""The demo's commands: printed, logged, and ended with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.demo import commands
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.runs.command import LAST_LINES
from tests.support.commands import REPOSITORY


def test_a_command_is_printed_logged_and_read_line_by_line(tmp_path):
    said, lines = [], []
    script = "print('one two'); print('three')"
    commands.run([sys.executable, "-c", script], tmp_path / "log", said.append, lines.append)
    assert said == [f"$ {sys.executable} -c 'print('\"'\"'one two'\"'\"'); print('\"'\"'three'\"'\"')'"]
    assert lines == ["one two\n", "three\n"]
    assert (tmp_path / "log").read_text() == "one two\nthree\n"


def test_a_failing_command_shows_its_last_lines_and_its_log(tmp_path):
    said = []
    script = "for i in range(100): print('line', i)\nraise SystemExit(7)"
    with pytest.raises(UserError, match=r"exit status 7.*log") as caught:
        commands.run([sys.executable, "-c", script], tmp_path / "log", said.append)
    assert "\n" not in str(caught.value)
    assert said[1:] == [f"  line {i}" for i in range(100 - LAST_LINES, 100)]


def test_what_torchrun_says_about_its_end_does_not_hide_the_cause(tmp_path):
    said = []
    script = """
print('the cause')
print('W1 torch/distributed/elastic/multiprocessing/api.py:1] Sending process 2 closing signal SIGTERM')
for i in range(100): print('line', i)
raise SystemExit(1)"""
    with pytest.raises(UserError):
        commands.run([sys.executable, "-c", script], tmp_path / "log", said.append)
    assert said[1:] == ["  the cause"]
    assert "line 99" in (tmp_path / "log").read_text()


def test_an_interruption_ends_the_command_too(tmp_path):
    def interrupt(line):
        raise KeyboardInterrupt

    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        commands.run([sys.executable, "-c", script], tmp_path / "log", lambda text: None, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "log").read_text()), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_killed_demo_takes_its_command_along(tmp_path):
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    script = f"""
from pathlib import Path
from examples.demo import commands
commands.run({sleeper!r}, Path("log"), print, lambda line: os.kill(os.getpid(), signal.SIGKILL))
"""
    demo_process = subprocess.run(
        [sys.executable, "-c", "import os, signal" + script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
    )
    assert demo_process.returncode == -signal.SIGKILL
    for _ in range(50):
        if not _lives(int((tmp_path / "log").read_text())):
            return
        time.sleep(0.1)
    raise AssertionError("the command goes on without the demo")


def _lives(process: int) -> bool:
    """Whether it runs: a zombie, whose parent has not asked for its exit status, does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
