"""torchrun is ended where it does not end after its workers."""

import subprocess
import sys
import time

import pytest

from skipln_fairseq.common.lost import LOST
from skipln_fairseq.recipes import launcher
from skipln_fairseq.runs.command import CommandFailed, run


def test_a_launcher_that_waits_for_a_lost_node_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr(launcher, "GRACE", 0.5)
    code = f"import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print({LOST!r}); time.sleep(20)"
    torchrun, since = launcher.Launcher(), time.monotonic()
    with pytest.raises(CommandFailed) as failed:
        run([sys.executable, "-c", code], tmp_path / "log", torchrun.heard, on_start=torchrun.started)
    assert failed.value.reason == LOST
    assert time.monotonic() - since < 15


def test_any_other_line_ends_nothing(monkeypatch):
    monkeypatch.setattr(launcher, "GRACE", 0)
    torchrun = launcher.Launcher()
    with subprocess.Popen(["sleep", "0.5"]) as process:
        torchrun.started(process)
        torchrun.heard("| INFO | fairseq_cli.train | done training\n")
    assert process.returncode == 0
