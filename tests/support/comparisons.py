"""Grids to compare by, and commands that only seem to train."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.compare.training import Training
from skipln_fairseq.compare.translation import Translation

FAKE = Path(__file__).with_name("fake_fairseq.py")
SENTENCES = [f"Der Satz mit der Nummer {n} ist <b>lang</b> genug & hat Wörter" for n in range(40)]


def make_grid(folder):
    """A grid as YAML holds it, whose data are there."""
    data = folder / "data"
    data.mkdir()
    for lang in ("en", "de"):
        (data / f"dict.{lang}.txt").write_text("a 1\n")
        (data / f"test.{lang}").write_text("".join(f"{line}\n" for line in SENTENCES))
    return {
        "title": "A <title>",
        "baseline": "plain",
        "seeds": [1, 2, 3],
        "data": {"d": {"path": f"{data}", "source": f"{data}/test.en", "reference": f"{data}/test.de"}},
        "variants": {"plain": {"skip-type": "plain"}, "good": {"good": True}, "same": None},
        "train": {"arch": "a", "lr": 2.0},
        "evaluate": {"beam": 5},
    }


def written(grid, folder) -> Path:
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(grid, sort_keys=False))
    return file


def fake(monkeypatch):
    """Have all commands be those of fake_fairseq.py."""
    monkeypatch.setattr(Training, "check", lambda *_: None)
    monkeypatch.setattr(Translation, "check_command", lambda *_: None)
    for kind in (Training, Translation):
        command = kind.command.fget
        line = property(lambda self, command=command: [sys.executable, str(FAKE), *command(self)])
        monkeypatch.setattr(kind, "command", line)


def compare_by(grid, folder, capsys, *arguments, fails=False, **changes):
    """A comparison's results of its first data, and what it printed. Errors are raised after the report is written."""
    file = written({**grid, **changes}, folder)
    line = [str(file), "--work-dir", str(folder / "work"), "--processes", "2", *arguments]
    if fails:
        with pytest.raises(UserError) as error:
            compare.main(line)
        print(error.value)
    else:
        compare.main(line)
    results = json.loads((folder / "work" / "grid" / "results.json").read_text())
    return results["data"][0], capsys.readouterr().out
