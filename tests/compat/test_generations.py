"""Checkpoints of every generation of fairseq load as the models they were, translate, and are trained on."""

import re
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.checkpoint_utils import load_model_ensemble_and_task
from fairseq.models.transformer import TransformerModel
from omegaconf import OmegaConf

import skipln_fairseq  # noqa: F401  (applies the workarounds)
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.checkpoints import read_checkpoint
from tests.support.commands import TRAIN, run
from tests.support.generations import GENERATIONS, MODEL, classes_in, with_attributes, write

SIZES = [f"--{name.replace('_', '-')}={value}" for name, value in MODEL.items() if type(value) is int]
ONE_MORE = [
    *TRAIN,
    *SIZES,
    "--criterion=label_smoothed_cross_entropy",
    "--max-update=8",
    "--disable-validation",
]
VARIANTS = {
    "post": {},
    "pre": {"encoder_normalize_before": True, "decoder_normalize_before": True},
    "two widths": {"encoder_embed_dim": 24},
    "shared": {"share_all_embeddings": True},
    "learned positions": {"encoder_learned_pos": True, "decoder_learned_pos": True},
}


def logits(model):
    torch.manual_seed(3)
    words = torch.randint(4, 30, (3, 7))
    return model(words, torch.full((3,), 7), words)[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_model_is_the_one_that_was_saved(generation, variant, data, tmp_path):
    model = write(generation, data, tmp_path / "c.pt", **VARIANTS[variant])
    loaded = load_model_ensemble_and_task([str(tmp_path / "c.pt")])[0][0].eval()
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_it_translates(generation, data, tmp_path):
    write(generation, data, tmp_path / "c.pt")
    hub = TransformerModel.from_pretrained(str(tmp_path), "c.pt", str(data))
    assert isinstance(hub.translate("a b", beam=2, max_len_b=5), str)


@pytest.mark.parametrize("generation", ["0.5", "0.9"])
def test_the_commands_translate_with_it(generation, data, tmp_path):
    write(generation, data, tmp_path / "c.pt")
    finished = run(
        "fairseq-generate", data, "--path", tmp_path / "c.pt", "--cpu", "--max-len-b=10", "--beam=2"
    )
    assert len(finished.lines("H")) == 15


def updates(finished):
    return [update for update, _ in finished.losses()]


@pytest.mark.parametrize("generation", ["0.9", "0.12"])
def test_a_run_goes_on_from_it(generation, data, tmp_path):
    write(generation, data, tmp_path / "checkpoint_last.pt")
    resumed = run("fairseq-train", data, *ONE_MORE, "--arch=transformer", "--save-dir", tmp_path)
    assert updates(resumed) == ["8"]


@pytest.mark.parametrize("generation", ["0.4", "0.8", "0.12.2"])
def test_a_run_goes_on_from_parameters_that_were_cut_otherwise(generation, data, tmp_path):
    write(generation, data, tmp_path / "checkpoint_last.pt")
    resume = ("fairseq-train", data, *ONE_MORE, "--arch=transformer", "--save-dir", tmp_path)
    refused = run(*resume, succeeds=False)
    assert "error: " in refused.output.splitlines()[-1]
    assert "--reset-optimizer" in refused.output.splitlines()[-1]
    assert "Traceback" not in refused.output
    assert updates(run(*resume, "--reset-optimizer"))[0] == "1"


@pytest.mark.parametrize("generation", ["0.4", "0.12.2"])
@pytest.mark.parametrize("skip", ["plain", "recursive"])
def test_other_connections_start_from_it(generation, skip, data, tmp_path):
    write(generation, data, tmp_path / "c.pt")
    tuned = run(
        *("fairseq-train", data, *ONE_MORE, "--skip-type", skip, "--finetune-from-model", tmp_path / "c.pt"),
        *("--save-dir", tmp_path / "tuned", "--max-update=1", "--lr=1e-30"),
    )
    if skip == "recursive":  # the norms that have no counterpart there, and no other
        fresh = re.search(r"starting fresh: (.*)", tuned.output)[1].split(", ")
        assert all(".skip.norms." in name for name in fresh)
    stored = read_checkpoint(tmp_path / "tuned" / "checkpoint_last.pt")["model"]
    name = "encoder.layers.1.self_attn_layer_norm.weight"
    assert torch.allclose(stored[name], torch.ones(16))


@pytest.mark.parametrize("flags", ["--skip-type=dual", "--skip-type=plain --norm-placement=pre"])
def test_a_norm_at_the_end_that_it_does_not_have_starts_fresh(flags, data, tmp_path):
    write("0.5", data, tmp_path / "c.pt")
    train = ("fairseq-train", data, *ONE_MORE, *flags.split(), "--save-dir", tmp_path / "tuned")
    tuned = run(*train, "--finetune-from-model", tmp_path / "c.pt", "--max-update=1")
    fresh = re.search(r"starting fresh: (.*)", tuned.output)[1].split(", ")
    assert {name.split(".layer_norm.")[0] for name in fresh} == {"encoder", "decoder"}
    stored = read_checkpoint(tmp_path / "tuned" / "checkpoint_last.pt")["model"]
    assert set(fresh) <= set(stored)
    assert updates(run(*train, "--max-update=2")) == ["2"]


@pytest.mark.parametrize("generation", ["0.5", "0.12"])
@pytest.mark.parametrize("skip", ["dual", "recursive"])
def test_other_connections_start_from_it_pruned(generation, skip, data, tmp_path):
    model = write(generation, data, tmp_path / "c.pt")
    tuned = run(
        *("fairseq-train", data, *ONE_MORE, "--skip-type", skip, "--finetune-from-model", tmp_path / "c.pt"),
        *("--encoder-layers-to-keep=1", "--save-dir", tmp_path / "tuned", "--max-update=1", "--lr=1e-30"),
    )
    assert ".layers.1." not in "".join(re.findall(r"encoder\.layers\.\d\.", tuned.output))
    stored = read_checkpoint(tmp_path / "tuned" / "checkpoint_last.pt")["model"]
    assert torch.allclose(stored["encoder.layers.0.fc1.weight"], model.encoder.layers[1].fc1.weight)


def test_flags_that_are_pickled_as_omegaconfs_are_refused_with_what_can_be_done(data, tmp_path):
    write("0.12", data, tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=False)
    torch.save(
        {**state, "cfg": OmegaConf.create(state["cfg"], flags={"allow_objects": True})}, tmp_path / "c.pt"
    )
    with pytest.raises(UserError, match=r"OmegaConf\.to_container\(state\['cfg'\]\)"):
        read_checkpoint(tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=False)
    state["cfg"] = OmegaConf.to_container(state["cfg"])
    torch.save(state, tmp_path / "c.pt")
    assert load_model_ensemble_and_task([str(tmp_path / "c.pt")])[0]


@pytest.mark.parametrize("module", ["fairseq.meters", "fairseq.logging.meters"])
def test_counters_become_bare_attributes(module, data, tmp_path):
    write("0.8", data, tmp_path / "c.pt", module=module)
    counters = read_checkpoint(tmp_path / "c.pt")["extra_state"]["train_meters"]
    assert {type(counter) for counter in counters.values()} == {Namespace}
    assert counters["train_loss"].val == np.float32(2.5)
    assert counters["wall"].start == 1540000000.5
    assert counters["train_wall"].n == 3


def test_a_counters_own_methods_never_run(tmp_path):
    """What stands in a file may not choose which method sets it up, nor replace one."""
    with classes_in("fairseq.meters", "AverageMeter") as classes:
        counter = with_attributes(classes.AverageMeter, __setstate__=1, __class__=2)
        torch.save({"model": {}, "extra_state": {"train_meters": {"loss": counter}}}, tmp_path / "c.pt")
    held = read_checkpoint(tmp_path / "c.pt")["extra_state"]["train_meters"]["loss"]
    assert type(held) is Namespace


@pytest.mark.parametrize(
    "value",
    [
        np.float16(2),
        np.float32(2.5),
        np.float64(2.5),
        np.bool_(True),
        np.int32(3),
        np.int64(3),
        np.uint8(3),
        np.str_("é"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numpys_scalars_load(value, tmp_path):
    torch.save({"model": {}, "extra_state": {"x": value, "many": np.array([value])}}, tmp_path / "c.pt")
    held = read_checkpoint(tmp_path / "c.pt")["extra_state"]
    assert held["x"] == value
    assert held["many"].dtype == np.array([value]).dtype


def test_numpys_arrays_of_objects_are_refused(tmp_path):
    torch.save({"model": {}, "extra_state": {"x": np.array([{}], dtype=object)}}, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt"):
        read_checkpoint(tmp_path / "c.pt")


def test_a_path_among_the_flags_is_text(tmp_path):
    torch.save({"model": {}, "args": Namespace(save_dir=Path("/a/b"), data=Path("c"))}, tmp_path / "c.pt")
    args = read_checkpoint(tmp_path / "c.pt")["args"]
    assert (args.save_dir, args.data) == ("/a/b", "c")


def test_a_class_of_a_fork_is_named_with_what_can_be_done(data, tmp_path):
    with classes_in("fairseq.fork", "Schedule") as classes:
        torch.save({"model": {}, "extra_state": {"x": classes.Schedule()}}, tmp_path / "c.pt")
    with pytest.raises(
        UserError, match=r"a pickled fairseq\.fork\.Schedule.* put a number or text in its place"
    ):
        read_checkpoint(tmp_path / "c.pt")


def test_tensors_in_counters_are_looked_at_too(tmp_path):
    with classes_in("fairseq.meters", "AverageMeter") as classes:
        counter = with_attributes(classes.AverageMeter, sum=torch.zeros(2, device="meta"))
        torch.save({"model": {}, "extra_state": {"x": counter}}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="'sum' is no plain tensor"):
        read_checkpoint(tmp_path / "c.pt")


def test_the_old_file_stays_as_it_is(data, tmp_path):
    write("0.7", data, tmp_path / "c.pt")
    shutil.copy(tmp_path / "c.pt", tmp_path / "copy.pt")
    load_model_ensemble_and_task([str(tmp_path / "c.pt")])
    assert (tmp_path / "c.pt").read_bytes() == (tmp_path / "copy.pt").read_bytes()
