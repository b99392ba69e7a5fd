"""Commands that are run for the user: what they print, and what they cost."""

import subprocess
import sys
from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.runs import CommandFailed, Translations, read_log, run
from tests.support.commands import REPOSITORY

LOG = """2026-01-01 00:00:00 | INFO | train_inner | {"epoch": 1, "nll_loss": "9.5", "num_updates": "20"}
2026-01-01 00:00:00 | INFO | valid | {"epoch": 1, "valid_nll_loss": "8.5", "valid_num_updates": "20"}
2026-01-01 00:00:00 | INFO | train | {"epoch": 1, "train_nll_loss": "9.0", "train_num_updates": "20"}
something else | {"nll_loss": "1"}
2026-01-01 00:00:00 | INFO | train_inner | {"epoch": 1, "nll_loss": "7.5", "num_updates": "40"}
2026-01-01 00:00:00 | INFO | train_inner | {"epoch": 1, "nll_loss": "7.0", "num_updates": "40", "wps": "n/a"}
"""


def test_a_log_is_read_once_for_each_update_and_the_repetition_counts(tmp_path):
    (tmp_path / "log").write_text(LOG)
    records = read_log(tmp_path / "log")
    losses = [next(r[key] for key in r if key.endswith("nll_loss")) for r in records]
    assert losses == [9.5, 8.5, 9.0, 7.0]
    assert "wps" not in records[-1]


def test_a_torn_line_is_left_out_and_what_follows_is_not(tmp_path):
    """A killed process, or a full disk, leaves one; a resumed training begins with its flags."""
    log = tmp_path / "log"
    log.write_text(LOG + '2026 | INFO | train_inner | {"nll_loss": "6.0", "num_upd')
    run([sys.executable, "-c", f"""print("2026 | INFO | {{'a': 1}}"); print({LOG!r})"""], log)
    assert "num_upd\n2026 | INFO | {'a': 1}\n" in log.read_text()
    assert len(read_log(log)) == 4
    log.write_text(LOG + """2026 | INFO | train_inner | {"nll_loss": "62026 | INFO | {'a': 1}\n""")
    assert len(read_log(log)) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a full disk to write to")
def test_a_log_that_cannot_be_written_is_one_line():
    with pytest.raises(UserError, match="cannot write /dev/full: No space left on device"):
        run([sys.executable, "-c", "print('one')"], Path("/dev/full"))


def test_translations_are_told_apart_by_their_numbers():
    counts = []
    translations = Translations(counts.append)
    for line in ("S-1\tx\n", "D-1\t-0.5\tzwei\n", "H-0\t-1\ty\n", "D-0\t-0.1\teins\n", "D-2\t-0.1\t\n"):
        translations.on_line(line)
    assert translations.lines() == ["eins", "zwei", ""]
    assert counts == [1, 2, 3]


def test_of_several_translations_the_best_counts():
    translations = Translations()
    for line in ("D-0\t-0.1\tbest\n", "D-0\t-0.5\tworse\n"):
        translations.on_line(line)
    assert translations.lines() == ["best"]


def test_a_command_is_logged_watched_and_measured(tmp_path):
    lines = []
    memory = "x = bytearray(200 << 20); print('one'); print('two')"
    usage = run([sys.executable, "-c", memory], tmp_path / "log", lines.append)
    assert lines == ["one\n", "two\n"]
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert usage.peak_bytes > 200 << 20
    assert 0 < usage.cpu_seconds < 60


def test_a_command_that_fails_says_its_last_lines(tmp_path):
    with pytest.raises(CommandFailed, match="exit status 3") as failed:
        run([sys.executable, "-c", "print('why'); raise SystemExit(3)"], tmp_path / "log")
    assert failed.value.last == ("why",)


OUTLIVES = """
import os, signal, subprocess, sys
from skipln_fairseq.runs import run_resumable

TELL_ALL = "import os, signal; os.kill(os.getpid(), signal.SIGUSR1)"

def main():
    exec(TELL_ALL)
    subprocess.run([sys.executable, "-c", TELL_ALL], check=True)
    print("went on")

run_resumable(main)
"""


def test_the_signal_for_a_training_ends_neither_its_command_nor_a_launcher():
    """Slurm sends it to all processes of a job."""
    done = subprocess.run([sys.executable, "-c", OUTLIVES], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
