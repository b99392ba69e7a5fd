"""A comparison that is killed goes on, and two do not share a folder."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.runs import locked
from tests.support.commands import REPOSITORY
from tests.support.comparisons import written

KILLED = """
import sys
sys.path.insert(0, {repository!r})
from skipln_fairseq.compare import __main__ as compare
from tests.support import comparisons
class Patch:
    setattr = staticmethod(setattr)
comparisons.fake(Patch)
compare.main(sys.argv[1:])
"""


def test_a_killed_comparison_leaves_nothing_running_and_goes_on(compared, grid, tmp_path):
    """Two trainings wait after their first checkpoint when the comparison is killed; later they go on from there."""
    changes = {"variants": {"plain": {"behave": "wait"}, "good": {"behave": "wait", "good": True}}}
    script = KILLED.format(repository=str(REPOSITORY))
    arguments = [written({**grid, **changes}, tmp_path), "--work-dir", tmp_path / "work", "--processes", "2"]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments])
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("work/runs/*/*/*/checkpoint_best.pt"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    assert not _alive(tmp_path)
    (tmp_path / "go").touch()
    table, printed = compared(**changes)
    assert table["missing"] == []
    assert printed.count("BLEU") == 6
    # what the rest of a training takes says nothing of a whole one
    assert "[1/6 trained] " in printed
    assert "[6/6 trained, 0 min left] " in printed
    logs = [file.read_text() for file in tmp_path.glob("work/runs/*/*/*/train.log")]
    assert len(logs) == 6
    assert all(re.findall(r'"num_updates": "(\d)"', log) == ["1", "2", "3"] for log in logs)


def _alive(folder) -> list[str]:
    """Command lines that name ``folder``."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(folder) in line and "fake_fairseq" in line]


def test_two_comparisons_do_not_share_a_folder_at_once(compared, grid, tmp_path):
    with (
        locked(tmp_path / "work", "comparison"),
        pytest.raises(UserError, match=r"another comparison, .* is at work"),
    ):
        compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work")])
