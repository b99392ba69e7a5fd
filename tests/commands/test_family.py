"""Every choice of the family through the real commands, its flags exactly as the tables print them."""

import math

import pytest
import torch

from skipln_fairseq.models.family import declarations, example, flag_of
from tests.support.commands import SIZES, TRAIN, USER_DIR, run

SIDES = ("encoder", "decoder")
SMALL = [f"--{side}-{name}=16" for side in SIDES for name in ("embed-dim", "ffn-embed-dim")]
SMALL += [f"--{side}-attention-heads=2" for side in SIDES]
TRAIN_SMALL = [*TRAIN, *SMALL, "--lr-scheduler=fixed"]
FEW_WORDS = ("--cpu", "--gen-subset=valid", "--beam=1", "--max-len-b=5")


def train(data, folder, *flags, updates=2, **how):
    limits = (f"--max-update={updates}", "--save-dir", folder)
    return run("fairseq-train", data, *TRAIN_SMALL, *flags, *limits, **how)


def checkpoint(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)


def assert_learns(finished, first, last):
    """Each update from first to last logged a finite loss, and so did the validation."""
    assert [update for update, _ in finished.losses()] == [str(n) for n in range(first, last + 1)]
    assert all(math.isfinite(float(loss)) for _, loss in finished.losses())
    (valid,) = finished.logged("valid")
    assert math.isfinite(float(valid["valid_loss"]))


def assert_translates(data, folder):
    """One hypothesis with a finite score for each sentence."""
    hypotheses = run("fairseq-generate", data, "--path", folder / "checkpoint_last.pt", *FEW_WORDS).lines("H")
    numbers, scores, _ = zip(*(line.split("\t") for line in hypotheses), strict=True)
    assert sorted(numbers) == sorted(f"H-{n}" for n in range(SIZES["valid"]))
    assert all(math.isfinite(float(score)) for score in scores)


@pytest.mark.parametrize("member", [*declarations()], ids=lambda member: f"{member.axis}-{member.choice}")
def test_its_row_trains_and_translates(tmp_path, data, member):
    """Two layers a side, so that a stream that is wider inside has to pass from one layer to the next."""
    assert_learns(train(data, tmp_path, *example(member).split()), 1, 2)
    chosen = checkpoint(tmp_path)["cfg"]["model"]
    name = flag_of(member).split()[0].lstrip("-").replace("-", "_")
    assert getattr(chosen, name) == member.choice
    assert_translates(data, tmp_path)


def test_mixed_skip_types_and_norms_by_slot(tmp_path, data):
    """Another skip type, placement and norm on each side, one sub-layer of each with a norm of its own."""
    flags = ["--encoder-skip-type=recursive", "--encoder-skip-order=3", "--encoder-ffn-skip-norm=rms"]
    flags += ["--decoder-skip-type=learned", "--decoder-skip-scale-vector", "--decoder-norm-placement=pre"]
    flags += ["--decoder-cross-attn-skip-norm=batch"]
    assert_learns(train(data, tmp_path, *flags), 1, 2)
    names = checkpoint(tmp_path)["model"].keys()
    layer = "encoder.layers.1"
    assert f"{layer}.self_attn_layer_norm.skip.norms.1.bias" in names
    assert f"{layer}.final_layer_norm.skip.norms.1.weight" in names
    assert f"{layer}.final_layer_norm.bias" not in names  # RMSNorm has none
    batch_norms = {name.rsplit(".", 1)[0] for name in names if name.endswith("running_var")}
    assert batch_norms == {f"decoder.layers.{n}.encoder_attn_layer_norm" for n in (0, 1)}

    assert_learns(train(data, tmp_path, *flags, updates=4), 3, 4)
    assert_translates(data, tmp_path)
    flags[2] = "--encoder-ffn-skip-norm=scale"
    (refused,) = train(data, tmp_path, *flags, updates=6, succeeds=False).output.splitlines()[-1:]
    assert refused.startswith("skipln_fairseq: error: ")
    assert "encoder ffn norm rms → scale" in refused


STREAMS = {
    "dynamic": "--encoder-skip-type=hyper-dynamic --skip-streams=3 --decoder-skip-type=frac-dynamic --skip-fractions=2",
    "mapped": "--encoder-skip-type=mhc --mhc-start=megatron --mhc-end=sigmoid --decoder-skip-type=siamese",
}


@pytest.mark.parametrize("streams", STREAMS)
def test_streams_resume_under_layerdrop_and_keep_some_layers(tmp_path, data, streams):
    """A resumed run repeats the uninterrupted one; the first layer may be dropped, and pruned for good."""
    flags = [*STREAMS[streams].split(), "--encoder-layerdrop=0.5", "--decoder-layerdrop=0.5"]
    first, rest = (train(data, tmp_path / "parts", *flags, updates=n) for n in (2, 4))
    whole = train(data, tmp_path / "whole", *flags, updates=4)
    assert first.losses() + rest.losses() == whole.losses()
    kept = "--model-overrides={'encoder_layers_to_keep': '1', 'decoder_layers_to_keep': '1'}"
    pruned = run(
        "fairseq-generate", data, "--path", tmp_path / "whole" / "checkpoint_last.pt", *FEW_WORDS, kept
    )
    assert len(pruned.lines("H")) == SIZES["valid"]


def test_a_run_with_mixing_is_resumed_as_it_was(tmp_path, data):
    flags = ["--skip-type=plain", "--norm-placement=pre", "--encoder-depth-mixing=attention"]
    flags += [
        "--decoder-depth-mixing=dlcl",
        "--encoder-attention-residual-size=2",
        "--checkpoint-activations",
    ]
    parts = [train(data, tmp_path / "parts", *flags, updates=updates).losses() for updates in (2, 4)]
    assert parts[0] + parts[1] == train(data, tmp_path / "whole", *flags, updates=4).losses()
    assert_translates(data, tmp_path / "parts")
    flags[3] = "--decoder-depth-mixing=denseformer"
    (refused,) = train(data, tmp_path / "parts", *flags, updates=6, succeeds=False).output.splitlines()[-1:]
    assert refused.startswith("skipln_fairseq: error: ")
    assert "decoder mixing dlcl → denseformer" in refused


def test_a_run_that_reads_earlier_values_and_outputs_is_resumed_as_it_was(tmp_path, data):
    """Dropout of the source's weights included; a solver that remembers, too."""
    flags = ["--skip-type=plain", "--norm-placement=pre", "--encoder-solver=pc2"]
    flags += ["--cross-attention-source=transparent", "--decoder-value-residual=learnable"]
    parts = [train(data, tmp_path / "parts", *flags, updates=updates).losses() for updates in (2, 4)]
    assert parts[0] + parts[1] == train(data, tmp_path / "whole", *flags, updates=4).losses()
    assert_translates(data, tmp_path / "parts")
    other = [*flags[:-1], "--decoder-value-residual=identity"]
    (refused,) = train(data, tmp_path / "parts", *other, updates=6, succeeds=False).output.splitlines()[-1:]
    assert refused.startswith("skipln_fairseq: error: ")
    assert "decoder value residual learnable → identity" in refused


def test_admin_measures_once_in_a_run_that_is_resumed(tmp_path, data):
    """The resumed run repeats the uninterrupted one, and keeps what was measured in the checkpoint alone.

    The authors' code writes the measurement to a file in the working folder, and needs a second run to read it.
    """

    def train_there(name, updates):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        argv = ["fairseq-train", data, *TRAIN_SMALL, "--skip-type=admin", f"--max-update={updates}"]
        argv = [str(part) for part in [*argv, "--user-dir", USER_DIR]]  # checkpoints/: the default
        code = (
            f"import os, sys; os.chdir({str(folder)!r}); sys.argv = {argv!r}; "
            "from fairseq_cli.train import cli_main; cli_main()"
        )
        return run("-c", code)

    def omegas(name):
        state = checkpoint(tmp_path / name / "checkpoints")["model"]
        kinds = ("profiled", "profile", "shift")
        return [{key: value for key, value in state.items() if key.endswith(f".{kind}")} for kind in kinds]

    first = train_there("interrupted", 2)
    profiled, profile, shift = omegas("interrupted")
    assert len(profiled) == 2 * 2 + 2 * 3  # two layers a side
    assert all(profiled.values())
    assert sum(float(value) != 1 for value in profile.values()) == len(profile) - 2  # 1 in a stack's first

    rest, whole = train_there("interrupted", 4), train_there("whole", 4)
    assert [run.output.count("Admin: measured") for run in (first, rest, whole)] == [1, 0, 1]
    assert first.losses() + rest.losses() == whole.losses()
    for found in (omegas("interrupted"), omegas("whole")):
        assert found[0] == profiled
        assert found[1] == profile
        assert all(not torch.equal(found[2][key], value) for key, value in shift.items())  # it learns
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {(path.parts[1], path.suffix) for path in files} == {("checkpoints", ".pt")}
