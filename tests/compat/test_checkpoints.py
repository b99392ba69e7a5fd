"""Checkpoints load safely: every harmless one does, everything else is refused and left as it was."""

import os
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

import skipln_fairseq  # noqa: F401  (applies the workarounds)
from skipln_fairseq.common.errors import UserError
from tests.support.commands import TRAIN, run


def load(path):
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


def save(path, cfg=None, **more):
    """The least that fairseq takes for a checkpoint."""
    state = {"model": {"w": torch.ones(2)}, "args": Namespace(arch="transformer"), "cfg": cfg}
    state |= {"optimizer_history": [{"optimizer_name": "a", "lr_scheduler_state": {}, "num_updates": 1}]}
    torch.save(state | {"extra_state": {"train_iterator": {}}, **more}, path)
    return path


class Evil:
    def __reduce__(self):
        return os.system, ("touch was-here",)


class Stranger:
    pass


def test_flags_and_numpy_counts_load(tmp_path):
    state = load(save(tmp_path / "c.pt", counts=np.array([1, 2]), best=np.float64(27.5)))
    assert state["args"].arch == "transformer"
    assert state["counts"].tolist() == [1, 2]
    assert state["best"] == 27.5


def test_numpy_counts_load_under_the_name_that_numpy_1_wrote(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(
        {"counts": np.array([1, 2]), "best": np.float64(27.5)}, path, _use_new_zipfile_serialization=False
    )
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch.load(path, weights_only=True)["counts"].tolist() == [1, 2]


def test_checkpoint_of_a_run_with_bleu_loads(trained):
    assert torch.serialization.get_unsafe_globals_in_checkpoint(trained.checkpoint) == []
    assert load(trained.checkpoint)["cfg"]["task"]["eval_bleu"] is True


@pytest.mark.parametrize(
    ("thing", "name"), [(Evil(), "(posix|nt).system"), (Stranger(), "tests.compat.test_checkpoints.Stranger")]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_any_other_object_is_refused_by_name_and_never_built(tmp_path, monkeypatch, thing, name, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.pt"
    torch.save({"model": {}, "extra_state": {"x": thing}}, path, _use_new_zipfile_serialization=zipped)
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"c\.pt: it holds a pickled {name}"):
        load(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_truncated_checkpoint_is_refused_in_one_line(tmp_path, trained, kept):
    whole = trained.checkpoint.read_bytes()
    path = tmp_path / "c.pt"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"c\.pt is no checkpoint, or a damaged one") as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [torch.ones(3), {"w": torch.ones(3)}, [1, 2], "text", {"model": {}}])
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt is no checkpoint") as refused:
        load(tmp_path / "c.pt")
    assert "\n" not in str(refused.value)


def test_a_text_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "c.pt").write_text("the cat sees a dog\n" * 99)
    with pytest.raises(UserError, match=r"c\.pt is no checkpoint"):
        load(tmp_path / "c.pt")


def refused_in_one_line(finished):
    error = [line for line in finished.output.splitlines() if "skipln_fairseq: error:" in line]
    assert len(error) == 1, finished.output
    assert "Traceback" not in finished.output
    return error[0]


def test_resuming_from_a_damaged_checkpoint_stops_and_keeps_the_file(tmp_path, data, trained):
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes(trained.checkpoint.read_bytes()[:-100])
    before = last.read_bytes()
    finished = run("fairseq-train", data, *TRAIN, "--save-dir", tmp_path, succeeds=False)
    assert "checkpoint_last.pt is no checkpoint" in refused_in_one_line(finished)
    assert last.read_bytes() == before
    assert list(tmp_path.iterdir()) == [last]


def test_generating_from_an_evil_checkpoint_stops(tmp_path, data, trained):
    state = torch.load(trained.checkpoint, weights_only=True)
    state["extra_state"]["x"] = Evil()
    torch.save(state, tmp_path / "c.pt")
    finished = run("fairseq-generate", data, "--path", tmp_path / "c.pt", "--cpu", succeeds=False)
    assert "it holds a pickled posix.system" in refused_in_one_line(finished)


def test_the_hub_refuses_with_an_exception(tmp_path, data, trained):
    shutil.copy(trained.checkpoint, tmp_path / "good.pt")
    (tmp_path / "bad.pt").write_bytes(trained.checkpoint.read_bytes()[:-100])
    from fairseq.models.transformer import TransformerModel

    with pytest.raises(UserError, match=r"bad\.pt is no checkpoint"):
        TransformerModel.from_pretrained(str(tmp_path), "bad.pt", str(data))
