"""Language models through fairseq's commands: trained, resumed, evaluated, finetuned, written with."""

import math

import pytest
import torch

from tests.models.test_language_model import CUTOFFS, SMALL
from tests.support.commands import SIZES, run


@pytest.fixture(scope="module")
def monolingual(texts, tmp_path_factory):
    """The English texts, binarised."""
    folder = tmp_path_factory.mktemp("monolingual")
    prefixes = (f"--{split}pref={texts / split}.en" for split in ("train", "valid", "test"))
    run("fairseq-preprocess", "--only-source", *prefixes, "--destdir", folder)
    return folder


def train(data, folder, arch, *flags):
    task = ("--task=language_modeling", "--tokens-per-sample=32", "--batch-size=16", "--num-workers=0")
    common = ("--optimizer=adam", "--lr=0.001", "--cpu", "--log-format=json", "--log-interval=1")
    return run("fairseq-train", data, *task, *common, f"--arch={arch}", "--save-dir", folder, *flags)


def evaluate(data, folder, split="valid"):
    """The loss (base 2) that fairseq-eval-lm prints."""
    flags = ("--path", folder / "checkpoint_last.pt", "--cpu", "--tokens-per-sample=32", "--batch-size=8")
    output = run("fairseq-eval-lm", data, *flags, "--gen-subset", split).output
    return float(output.rpartition("Loss (base 2): ")[2].partition(",")[0])


def fill_unset_memory(checkpoint):
    """NaN, which may be there by chance, in the buffers that fairseq's adaptive modules make and never set."""
    state = torch.load(checkpoint, weights_only=False)
    for name, value in state["model"].items():
        if name.endswith("._float_tensor"):
            value.fill_(float("nan"))
    torch.save(state, checkpoint)


@pytest.mark.parametrize(
    ("arch", "flags", "rounding"),
    [
        # logged with three digits after the point
        ("transformer_lm_rskip_tiny", "", {"abs": 2e-3}),
        (
            "transformer_lm_rskip_tiny",
            "--skip-type admin --decoder-ffn-skip-norm rms --scale-heads",
            {"abs": 2e-3},
        ),
        (
            "transformer_lm_rskip_wiki103",
            f"{' '.join(SMALL)} {CUTOFFS} --skip-type layerscale",
            # fairseq's criterion leaves out the one word in each tail whose index there is padding's
            {"rel": 0.01},
        ),
    ],
    ids=["tiny", "admin", "adaptive"],
)
def test_through_the_commands(tmp_path, monolingual, arch, flags, rounding):
    """Two updates, resumed for two more; fairseq-eval-lm then repeats what the last validation logged."""
    first = train(monolingual, tmp_path, arch, *flags.split(), "--max-update=2")
    fill_unset_memory(tmp_path / "checkpoint_last.pt")
    rest = train(monolingual, tmp_path, arch, *flags.split(), "--max-update=4")
    losses = first.losses() + rest.losses()
    assert [update for update, _ in losses] == list("1234")
    assert all(math.isfinite(float(loss)) for _, loss in losses)
    (before,), (after,) = first.logged("valid"), rest.logged("valid")
    assert float(after["valid_loss"]) < float(before["valid_loss"])
    assert evaluate(monolingual, tmp_path) == pytest.approx(float(after["valid_loss"]), **rounding)


def test_stocks_checkpoint_is_finetuned_and_evaluates_the_same(tmp_path, monolingual):
    """What fairseq's own architecture wrote starts our plain model, which then has its loss on the test texts."""
    size = [*SMALL, "--max-update=2"]
    train(monolingual, tmp_path / "stock", "transformer_lm_gpt", *size)
    still = ("--finetune-from-model", tmp_path / "stock/checkpoint_last.pt", "--lr=0", "--skip-type=plain")
    train(monolingual, tmp_path / "ours", "transformer_lm_rskip_gpt", *size, *still)
    losses = [evaluate(monolingual, tmp_path / name, "test") for name in ("stock", "ours")]
    assert losses[0] == losses[1]


def test_it_writes_text(tmp_path, monolingual):
    """fairseq-generate and -interactive of a model trained by sentence: both need a name that numpy 2 dropped."""
    train(monolingual, tmp_path, "transformer_lm_rskip_tiny", "--max-update=2", "--sample-break-mode=eos")
    flags = ("--path", tmp_path / "checkpoint_last.pt", "--task=language_modeling", "--cpu", "--max-len-b=8")
    flags += ("--sample-break-mode=eos", "--beam=2")
    assert (
        len(run("fairseq-generate", monolingual, *flags, "--gen-subset=valid").lines("H")) == SIZES["valid"]
    )
    assert len(run("fairseq-interactive", monolingual, *flags, stdin=b"the\n").lines("H")) == 1
