"""The demo's stages: reused, resumed, or done again from nothing."""

import json

import pytest

from examples.demo import training
from skipln_fairseq.runs import Stages


class Builder:
    """A stage's work that counts its calls and can be interrupted half way."""

    def __init__(self):
        self.calls = 0
        self.interrupt = False
        self.found = None

    def __call__(self, folder):
        self.calls += 1
        self.found = sorted(file.name for file in folder.iterdir())
        (folder / "half").write_text("x")
        if self.interrupt:
            raise KeyboardInterrupt
        (folder / "whole").write_text("x")


def test_a_complete_stage_is_reused(tmp_path):
    build = Builder()
    first, reused = Stages(tmp_path).run("a", {"n": 1}, build)
    assert not reused
    assert Stages(tmp_path).run("a", {"n": 1}, build) == (first, True)
    assert build.calls == 1


def test_an_interrupted_stage_is_done_again_from_nothing(tmp_path):
    build = Builder()
    build.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("a", {}, build)
    build.interrupt = False
    folder, reused = Stages(tmp_path).run("a", {}, build)
    assert not reused
    assert build.found == []
    assert (folder / "whole").exists()


def test_a_resumable_stage_goes_on_with_what_is_there(tmp_path):
    build = Builder()
    build.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("a", {}, build, resumable=True)
    build.interrupt = False
    Stages(tmp_path).run("a", {}, build, resumable=True)
    assert build.found == ["half"]


def test_other_settings_here_or_in_an_earlier_stage_make_another_folder(tmp_path):
    def second(first_settings, second_settings):
        stages = Stages(tmp_path)
        stages.run("a", first_settings, lambda folder: None)
        return stages.run("b", second_settings, lambda folder: None)[0]

    folders = {second({"n": n}, {"m": m}) for n in (1, 2) for m in (1, 2)}
    assert len(folders) == 4
    assert second({"n": 1}, {"m": 1}) in folders


def test_complete_stages_tell_their_settings(tmp_path):
    folder, _ = Stages(tmp_path).run("a", {"n": 1}, lambda folder: None)
    assert json.loads((folder / "complete.json").read_text()) == {"n": 1}


def test_every_flag_shapes_the_models_fingerprint():
    base = training.Recipe("transformer_rskip", 100, 1, 1)
    others = [
        training.Recipe("transformer", 100, 1, 1),
        training.Recipe("transformer_rskip", 200, 1, 1),
        training.Recipe("transformer_rskip", 100, 2, 1),
        training.Recipe("transformer_rskip", 100, 1, 2),
        training.Recipe("transformer_rskip", 100, 1, 1, ("--skip-order", "3")),
    ]
    assert all(other.settings() != base.settings() for other in others)


def test_processes_share_the_tokens_of_an_update():
    one, two = (training.Recipe("transformer_rskip", 100, 1, n).flags() for n in (1, 2))
    tokens = [int(flags[flags.index("--max-tokens") + 1]) for flags in (one, two)]
    assert tokens[0] == 2 * tokens[1] == training.TOKENS_PER_UPDATE
