"""compare --list and --run N: each run of a grid is a job of its own."""

import json
import re
import threading
import time

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.runs import locked
from tests.support.comparisons import fake, written


@pytest.fixture
def command(grid, tmp_path, monkeypatch, capsys):
    """Runs the command with some flags and changes of the grid; gives what it printed."""
    fake(monkeypatch)

    def run(*flags, **changes):
        line = [str(written({**grid, **changes}, tmp_path)), "--work-dir", str(tmp_path / "work")]
        compare.main([*line, *map(str, flags)])
        return capsys.readouterr().out

    return run


def results(folder):
    return json.loads((folder / "work" / "grid" / "results.json").read_text())["data"][0]


def test_the_runs_of_the_list_one_by_one_are_the_whole_comparison(command, tmp_path):
    listed = re.findall(r"^(\d+)\t(.+)$", command("--list"), re.MULTILINE)
    assert [int(number) for number, _ in listed] == list(range(9))
    for number, name in reversed(listed):
        assert f"] {name}: BLEU" in command("--run", number)
    assert not (tmp_path / "work" / "grid").exists()
    command("--report-only")
    one_by_one = results(tmp_path)
    assert one_by_one["missing"] == []
    assert "BLEU" not in command()
    assert results(tmp_path) == one_by_one
    assert command("--run", 4) == f"{listed[4][1]}: is there\n"


def test_what_chooses_by_tuning_waits_for_it(command):
    tune = {"flag": "lr", "values": [3.0, 1.0], "seed": 1}
    changes = {"tune": tune, "train": {"arch": "a"}, "seeds": [1, 2]}
    listed = command("--list", **changes).splitlines()
    assert len(listed) == 6 + 6
    assert listed[5] == "5\td / same / lr 1.0"
    with pytest.raises(UserError, match="--run 6: d / plain / seed 1: not all runs of its tuning are there"):
        command("--run", 6, **changes)
    for number in (0, 3):
        command("--run", number, **changes)
    assert "BLEU" in command("--run", 6, **changes)
    more = changes | {"tune": tune | {"also": {"plain": [2.0]}}}
    assert command("--list", **more).splitlines()[6] == "6\td / plain / lr 2.0"
    with pytest.raises(UserError, match="--run 7: d / plain / seed 1: not all runs of its tuning are there"):
        command("--run", 7, **more)
    with pytest.raises(UserError, match="--run 12: valid are 0 to 11"):
        command("--run", 12, **changes)


def test_a_run_that_failed_ends_with_an_error(command):
    with pytest.raises(UserError, match="run 0 failed, as said above"):
        command("--run", 0, train={"arch": "a", "lr": 2.0, "behave": "fail"})


def test_two_processes_are_never_at_the_same_run(command, tmp_path):
    """Others go on beside it; all runs together do not."""
    waits = {"train": {"arch": "a", "lr": 2.0}, "variants": {"plain": {"behave": "wait"}, "good": {}}}
    go_on = (tmp_path / "go").touch
    first = threading.Thread(daemon=True, target=command, args=("--run", 0), kwargs=waits)
    late = threading.Timer(30, go_on)  # or a second one that trains would wait for ever
    late.start()
    first.start()
    while not list(tmp_path.glob("work/runs/d/plain/seed-1-*/checkpoint_last.pt")):
        time.sleep(0.02)
    with pytest.raises(UserError, match="run 0 failed"):
        command("--run", 0, **waits)
    assert "BLEU" in command("--run", 1, **waits)
    with pytest.raises(UserError, match=r"another comparison, or .* is at work"):
        command(**waits)
    late.cancel()
    go_on()
    first.join(timeout=60)
    (log,) = tmp_path.glob("work/runs/d/plain/seed-1-*/train.log")
    assert re.findall(r'"num_updates": "(\d)"', log.read_text()) == ["1", "2", "3"]


def test_a_run_waits_for_no_whole_comparison(command, tmp_path):
    with (
        locked(tmp_path / "work", "comparison"),
        pytest.raises(UserError, match="another comparison, of all runs,"),
    ):
        command("--run", 0)
