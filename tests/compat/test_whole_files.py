"""What fairseq writes is whole or not there."""

import errno
import os
import re
import shutil

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

import skipln_fairseq
from skipln_fairseq.common.errors import UserError
from tests.support.commands import TRAIN, run
from tests.support.kills import COPY_HALF_AND_DIE, killed_in


@pytest.mark.parametrize("twentieth", range(20))
def test_a_kill_in_the_copy_leaves_the_older_checkpoint_whole(tmp_path, twentieth):
    new, last = tmp_path / "checkpoint_1_200.pt", tmp_path / "checkpoint_last.pt"
    torch.save(torch.ones(5000), new)
    torch.save(torch.zeros(5000), last)
    before = last.read_bytes()

    def copy():
        exec(COPY_HALF_AND_DIE.format(n=1, part=100 * twentieth // 19), {})
        PathManager.copy(str(new), str(last), overwrite=True)

    killed_in(copy)
    assert last.read_bytes() == before
    assert PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == new.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [new.name, last.name]


def test_a_kill_while_it_saves_leaves_the_older_checkpoint_whole(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint_last.pt"
    checkpoint_utils.torch_persistent_save({"w": 1}, str(file))

    def die(state, stream):
        stream.write(b"half")
        stream.flush()
        os.kill(os.getpid(), 9)

    def save():
        monkeypatch.setattr(torch, "save", die)
        checkpoint_utils.torch_persistent_save({"w": 2}, str(file))

    killed_in(save)
    assert torch.load(file, weights_only=True) == {"w": 1}


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_older_ones_and_says_which_file_had_no_space(tmp_path, monkeypatch, reason):
    new, last = tmp_path / "checkpoint1.pt", tmp_path / "checkpoint_last.pt"
    for file in (new, last):
        torch.save(torch.zeros(5), file)
    before = new.read_bytes(), last.read_bytes()

    def fsync(descriptor):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=rf"checkpoint_last\.pt: {os.strerror(reason)}"):
        PathManager.copy(str(new), str(last), overwrite=True)
    with pytest.raises(UserError, match=rf"checkpoint1\.pt: {os.strerror(reason)}"):
        checkpoint_utils.torch_persistent_save({"w": 2}, str(new))
    assert (new.read_bytes(), last.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
sys.argv = {argv!r}
from {module} import {main}
{main}()
"""


def refused(finished, file):
    error = [line for line in finished.output.splitlines() if "skipln_fairseq: error:" in line]
    assert len(error) == 1, finished.output[-4000:]
    assert re.search(rf"{file}: File too large", error[0])
    assert "Traceback" not in finished.output


def test_a_training_that_may_not_write_more_ends_in_one_line_at_once(tmp_path, data, trained):
    """A limit to the size of a file, here above its log's, is the nearest to a full disk that every user may have."""
    shutil.copytree(trained.folder, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard"))
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    argv = ["fairseq-train", data, *TRAIN, "--max-epoch=4", "--save-dir", tmp_path / "run"]
    argv += ["--user-dir", skipln_fairseq.__path__[0]]
    code = LIMITED.format(argv=[*map(str, argv)], module="fairseq_cli.train", main="cli_main")
    refused(run("-c", code, succeeds=False), r"checkpoint4\.pt")
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_an_average_that_may_not_be_written_ends_in_one_line(tmp_path, trained):
    argv = [
        "average",
        "--inputs",
        trained.folder,
        "--num-epoch-checkpoints=2",
        "--output",
        tmp_path / "mean.pt",
    ]
    (tmp_path / "mean.pt").write_text("old")
    code = "from skipln_fairseq.common.errors import print_user_errors_in_one_line as p; p()\n"
    code += LIMITED.format(argv=[*map(str, argv)], module="skipln_fairseq.average.__main__", main="main")
    refused(run("-c", code, succeeds=False), r"mean\.pt")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("mean.pt", "old")]
