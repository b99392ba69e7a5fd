"""Pruning by --encoder-layers-to-keep and --decoder-layers-to-keep: once, each side by itself, resumable."""

import shutil

import pytest

from skipln_fairseq.compat.checkpoints import read_checkpoint
from skipln_fairseq.compat.kept_layers import depth
from tests.support.commands import TRAIN, run

PLAIN = [*TRAIN, "--skip-type=plain", "--encoder-layers=3", "--decoder-layers=3", "--disable-validation"]
KEPT = ("--encoder-layers-to-keep=0,2", "--decoder-layers-to-keep=1")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A model of three layers on each side."""
    folder = tmp_path_factory.mktemp("whole")
    run("fairseq-train", data, *PLAIN, "--max-update=1", "--save-dir", folder)
    return folder / "checkpoint_last.pt"


def depths(file):
    model = read_checkpoint(file)["model"]
    return depth(model, "encoder"), depth(model, "decoder")


def translate(data, file, *flags, **how):
    return run("fairseq-generate", data, "--path", file, "--cpu", "--max-len-b=5", "--beam=2", *flags, **how)


@pytest.mark.parametrize("kept", [KEPT, KEPT[:1], KEPT[1:]], ids=["both sides", "encoder", "decoder"])
def test_a_pruned_run_is_resumed_and_translates(kept, whole, data, tmp_path):
    train = ("fairseq-train", data, *PLAIN, *kept, "--save-dir", tmp_path)
    run(*train, "--finetune-from-model", whole, "--max-update=1", "--lr=1e-30")
    file = tmp_path / "checkpoint_last.pt"
    assert depths(file) == (2 if KEPT[0] in kept else 3, 1 if KEPT[1] in kept else 3)
    before, after = (read_checkpoint(one)["model"] for one in (whole, file))
    if KEPT[0] in kept:
        assert after["encoder.layers.1.fc1.weight"].allclose(before["encoder.layers.2.fc1.weight"])
    resumed = run(*train, "--max-update=2")
    assert [update for update, _ in resumed.losses()] == ["2"]
    assert len(translate(data, file).lines("H")) == 15


def test_a_stock_model_is_pruned_too(data, tmp_path):
    small = ("--encoder-embed-dim=16", "--encoder-ffn-embed-dim=16", "--encoder-attention-heads=2")
    flags = [flag for flag in PLAIN[2:] if flag != "--skip-type=plain"]
    train = ("fairseq-train", data, "--arch=transformer", *flags, *small, "--decoder-attention-heads=2")
    run(*train, "--max-update=1", "--save-dir", tmp_path / "whole")
    pruned = (*train, *KEPT, "--finetune-from-model", tmp_path / "whole" / "checkpoint_last.pt")
    run(*pruned, "--save-dir", tmp_path / "run", "--max-update=1")
    assert depths(tmp_path / "run" / "checkpoint_last.pt") == (2, 1)


def test_without_a_checkpoint_so_few_layers_are_trained_and_load(data, tmp_path):
    run("fairseq-train", data, *PLAIN, *KEPT, "--max-update=1", "--save-dir", tmp_path)
    assert depths(tmp_path / "checkpoint_last.pt") == (2, 1)
    assert len(translate(data, tmp_path / "checkpoint_last.pt").lines("H")) == 15


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_model_is_pruned_for_decoding_on_one_side(side, whole, data):
    override = f"{{'{side}_layers_to_keep': '0,2'}}"
    assert len(translate(data, whole, "--model-overrides", override).lines("H")) == 15


@pytest.mark.parametrize("flag", ["--encoder-layers-to-keep=0,7", "--decoder-layers-to-keep=3"])
def test_a_layer_that_is_not_there_is_named(flag, whole, data, tmp_path):
    shutil.copy(whole, tmp_path / "c.pt")
    train = ("fairseq-train", data, *PLAIN, flag, "--finetune-from-model", tmp_path / "c.pt")
    refused = run(*train, "--save-dir", tmp_path / "run", succeeds=False)
    last = refused.output.splitlines()[-1]
    assert f"error: {flag.replace('=', ' ')}: there are layers 0 to 2" in last
    assert "Traceback" not in refused.output
