"""A run resumes as the model it was; starting from another model is allowed, and said."""

import hashlib
import logging
import shutil

import pytest
import torch

from skipln_fairseq.models import resume
from tests.support.build import build, parse
from tests.support.commands import TRAIN, run

# so small a learning rate that a parameter moves by less than 1e-20
FROZEN = ("--max-update", "1", "--lr", "1e-30", "--disable-validation")


@pytest.fixture(scope="module")
def checkpoint_of(data, tmp_path_factory):
    """Checkpoints by flags, each trained once for one update."""
    made = {}

    def train(*flags):
        if flags not in made:
            folder = tmp_path_factory.mktemp("checkpoint")
            run("fairseq-train", data, *TRAIN, *flags, *FROZEN, "--save-dir", folder)
            made[flags] = folder / "checkpoint_last.pt"
        return made[flags]

    return train


FINETUNED = {
    "pre to sub": ("--skip-type plain --norm-placement pre", "--skip-type plain --norm-placement sub"),
    "sub to post": ("--skip-type plain --norm-placement sub", "--skip-type plain"),
    "to one gain": ("--skip-type plain", "--skip-type plain --skip-norm scale"),
    "to a vector": ("--skip-type learned", "--skip-type learned --skip-scale-vector"),
    "to LayerScale": ("--skip-type learned", "--skip-type layerscale"),
    "to ReZero": ("--skip-type learned --skip-norm none", "--skip-type rezero"),
    "to BatchNorm": ("--skip-order 2", "--skip-order 3 --skip-norm batch"),
    "to ResiDual": ("--skip-order 2", "--skip-type dual"),
    "from ResiDual": ("--skip-type dual", "--skip-type b2t"),
    "to streams": ("--skip-type learned --norm-placement pre", "--skip-type hyper-dynamic"),
    "between streams": ("--skip-type mhc --mhc-start factory --mhc-end sigmoid", "--skip-type hyper"),
    "between parts": ("--skip-type hyper --skip-streams 4", "--skip-type frac --skip-fractions 4"),
    "from streams": ("--skip-type siamese", "--skip-type dual"),
    "from Admin": ("--skip-type admin", "--skip-type deepnorm"),
    "Sub-LN's form": (
        "--connection-form first --skip-type plain --norm-placement sub",
        "--skip-type plain --norm-placement sub",
    ),
    "to a mixing": ("--skip-type plain", "--skip-type plain --depth-mixing dlcl"),
    "from a mixing": ("--skip-type plain --depth-mixing dlcl", "--skip-type plain"),
    "to another mixing": (
        "--skip-type plain --depth-mixing dlcl",
        "--skip-type plain --depth-mixing denseformer",
    ),
    "PowerNorm's form": ("--connection-form first --skip-norm power", "--skip-norm power"),
}


@pytest.mark.parametrize("change", FINETUNED)
def test_any_connection_may_become_any_other(change, caplog):
    """What --finetune-from-model does to the checkpoint's state: all loads, and no factor becomes another's."""
    caplog.set_level(logging.INFO)
    then, now = (flags.split() for flags in FINETUNED[change])
    stored, model = build("transformer_rskip", *then, seed=1), build("transformer_rskip", *now, seed=2)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in stored.parameters():
            parameter.add_(0.5)
    state = {"model": stored.state_dict()}
    resume._adopt(state, model, resume._changes(stored.args, model.args).retyped)
    model.load_state_dict(state["model"])
    for name, value in model.state_dict().items():
        if (".skip." in name and "norms" not in name) or "_mixing." in name:
            assert torch.equal(value, start[name]), name
        elif "proj.weight" in name or (".fc" in name and ".norm." not in name):
            assert torch.equal(value, stored.state_dict()[name]), name
    assert "starting fresh" in caplog.text


def test_a_layers_one_alpha_is_that_of_its_first_sub_layer(caplog):
    caplog.set_level(logging.INFO)
    stored = build("transformer_rskip", "--skip-type", "rezero", "--connection-form", "first")
    model = build("transformer_rskip", "--skip-type", "rezero")
    for number, (name, parameter) in enumerate(stored.named_parameters()):
        if "skip.scale" in name:
            torch.nn.init.constant_(parameter, number)
    state = {"model": stored.state_dict()}
    resume._adopt(state, model, resume._changes(stored.args, model.args).retyped)
    model.load_state_dict(state["model"])
    for layer, before in zip(model.decoder.layers, stored.decoder.layers, strict=True):
        assert layer.final_layer_norm.skip.scale == before.self_attn_layer_norm.skip.scale
    assert "decoder.layers.0.final_layer_norm.skip.scale" in caplog.text.partition("not taken")[2]


@pytest.mark.parametrize(
    ("then", "now", "found"),
    [
        (
            "expanded --skip-scale 2 --skip-norm ada",
            "expanded --skip-scale 3 --skip-norm ada",
            "scale 2.0 → 3.0",
        ),
        ("plain --skip-norm ada", "plain --skip-norm ada --adanorm-scale 2", "encoder norm scale 1.0 → 2.0"),
        ("plain", "plain --encoder-ffn-skip-norm rms", "encoder ffn norm layer → rms"),
        ("plain --depth-mixing dlcl", "plain", "decoder mixing dlcl → none"),
        (
            "plain --depth-mixing denseformer",
            "plain --depth-mixing denseformer --encoder-denseformer-period 2",
            "encoder mixing period 1 → 2",
        ),
        ("deepnorm --encoder-layers 2", "deepnorm --encoder-layers 3", "encoder depth 2+2 → 3+2"),
    ],
)
def test_differences_are_named(then, now, found):
    args = (parse("transformer_rskip", "--skip-type", *flags.split()) for flags in (then, now))
    assert found in "; ".join(resume._changes(*args).connections)


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("then", "now", "named"),
    [
        (("--skip-order", "2"), ("--skip-order", "3"), ["encoder order 2 → 3", "decoder order 2 → 3"]),
        ((), ("--share-skip-norms",), ["encoder share False → True"]),
        (
            ("--skip-type", "expanded", "--skip-scale", "0.5"),
            ("--skip-type", "expanded", "--skip-scale", "0.5", "--decoder-skip-scale", "2"),
            ["decoder scale 0.5 → 2.0"],
        ),
        (("--arch", "transformer_tiny"), (), ["encoder skip plain → recursive"]),
        ((), ("--arch", "transformer_tiny"), ["encoder skip recursive → plain"]),
    ],
    ids=["order", "shared", "scale of one side", "from stock", "to stock"],
)
def test_resuming_with_other_connections_is_refused(then, now, named, data, checkpoint_of, tmp_path):
    """λ and sharing leave no trace in names and shapes: fairseq alone would go on."""
    last = tmp_path / "checkpoint_last.pt"
    shutil.copy(checkpoint_of(*then), last)
    before = digest(last)
    refused = run(
        "fairseq-train", data, *TRAIN, *now, "--max-update", "2", "--save-dir", tmp_path, succeeds=False
    )
    error = refused.output.strip().splitlines()[-1]
    assert error.startswith("skipln_fairseq: error:")
    assert "Traceback" not in refused.output
    assert all(difference in error for difference in named), error
    assert "--finetune-from-model" in error
    assert digest(last) == before


def test_resuming_with_the_same_connections_goes_on(data, checkpoint_of, tmp_path):
    flags = ("--skip-type", "expanded", "--skip-scale", "0.5")
    shutil.copy(checkpoint_of(*flags), tmp_path / "checkpoint_last.pt")
    resumed = run("fairseq-train", data, *TRAIN, *flags, "--max-update", "2", "--save-dir", tmp_path)
    assert [update for update, _ in resumed.losses()] == ["2"]


@pytest.mark.parametrize(
    ("then", "now", "fresh", "unused"),
    [
        ((), ("--skip-order", "3"), "encoder.layers.0.self_attn_layer_norm.skip.norms.1.weight", "nothing"),
        ((), ("--skip-type", "plain"), "nothing", "decoder.layers.1.final_layer_norm.skip.norms.0.bias"),
        (
            ("--skip-type", "plain"),
            ("--skip-type", "plain", "--encoder-normalize-before"),
            "encoder.layer_norm.bias, encoder.layer_norm.weight",
            "nothing",
        ),
    ],
    ids=["a higher order", "to plain", "to pre-norm"],
)
def test_finetuning_may_change_connections_and_lists_it(
    then, now, fresh, unused, data, checkpoint_of, tmp_path
):
    pretrained = checkpoint_of(*then)
    tuned = run(
        *("fairseq-train", data, *TRAIN, *now, *FROZEN),
        *("--finetune-from-model", pretrained, "--save-dir", tmp_path),
    )
    listed = dict(
        line.split(" | ")[-1].split(": ", 1)
        for line in tuned.output.splitlines()
        if "starting fresh" in line or "not taken" in line
    )
    assert fresh in listed["starting fresh"]
    assert unused in listed["not taken from the checkpoint"]

    before = torch.load(pretrained, weights_only=False)["model"]
    after = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)["model"]
    for name in before.keys() & after.keys():
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-20)
    new = after.keys() - before.keys()
    assert new == ({*listed["starting fresh"].split(", ")} - {"nothing"})
    for name in new:  # a fresh norm is the identity
        identity = torch.full_like(after[name], name.endswith("weight"))
        torch.testing.assert_close(after[name], identity, rtol=0, atol=1e-20)


def moved_away_from_identity(checkpoint, folder):
    """A copy of a checkpoint whose every norm holds numbers of its own."""
    state = torch.load(checkpoint, weights_only=False)
    for number, (name, value) in enumerate(state["model"].items()):
        if "layer_norm" in name:
            value.fill_(1 + number / 100)
    torch.save(state, folder / "pretrained.pt")
    return state["model"], folder / "pretrained.pt"


@pytest.mark.parametrize("then", [(), ("--skip-type", "plain")], ids=["separate", "plain"])
def test_finetuning_into_shared_norms_keeps_the_norm_of_fairseqs_name(then, data, checkpoint_of, tmp_path):
    before, pretrained = moved_away_from_identity(checkpoint_of(*then), tmp_path)
    tuned = run(
        *("fairseq-train", data, *TRAIN, "--share-skip-norms", *FROZEN),
        *("--finetune-from-model", pretrained, "--save-dir", tmp_path),
    )
    after = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)["model"]
    for name in after:
        torch.testing.assert_close(after[name], before[name.replace(".skip.norms.0", "")], rtol=0, atol=1e-6)
    assert "starting fresh: nothing" in tuned.output
    dropped = "not taken from the checkpoint: decoder.layers.0.encoder_attn_layer_norm.skip.norms.0.bias"
    assert (dropped in tuned.output) == (then == ())


def test_finetuning_a_stock_checkpoint(data, checkpoint_of, tmp_path):
    dims = ("--encoder-ffn-embed-dim", "64", "--encoder-embed-dim", "64", "--decoder-embed-dim", "64")
    heads = ("--encoder-attention-heads", "2", "--decoder-attention-heads", "2")
    stock = checkpoint_of("--arch", "transformer_tiny")
    tuned = run(
        *("fairseq-train", data, *TRAIN, *dims, *heads, "--decoder-ffn-embed-dim", "64", *FROZEN),
        *("--finetune-from-model", stock, "--save-dir", tmp_path),
    )
    assert "connections differ from" in tuned.output
    assert "encoder skip plain → recursive" in tuned.output
