"""fairseq's commands on a GPU, in every precision; on a CPU, as slow tests, what examples/gpu/run.sh rehearses."""

import math

import pytest
import torch

from tests.commands.test_translate import hypotheses
from tests.support.commands import SIZES, TRAIN, run

UPDATES = math.ceil(SIZES["train"] / 16)  # in an epoch
FLAGS = {"cuda": [flag for flag in TRAIN if flag != "--cpu"], "cpu": TRAIN}
PRECISIONS = {"cuda": [(), ("--fp16",), ("--bf16",), ("--amp",)], "cpu": [("--bf16",)]}
ROUNDED = 0.05
"""How far losses may be from those of single precision, in bits: a twentieth of what they fall in a few updates."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
MARKS = {"cuda": needs_gpu, "cpu": pytest.mark.slow}
DEVICES = [pytest.param(device, marks=mark) for device, mark in MARKS.items()]
EACH = [
    pytest.param(device, precision, marks=MARKS[device], id="".join((device, *precision)))
    for device, precisions in PRECISIONS.items()
    for precision in precisions
]


def train(data, folder, device, *more):
    return run("fairseq-train", data, *FLAGS[device], "--dropout", "0", "--save-dir", folder, *more)


def losses(*finished):
    return [float(loss) for one in finished for _, loss in one.losses()]


@pytest.fixture(scope="module")
def single(data, tmp_path_factory):
    """The losses of an epoch in single precision on the CPU."""
    return losses(train(data, tmp_path_factory.mktemp("single"), "cpu"))


@pytest.mark.parametrize(("device", "precision"), EACH)
def test_each_precision_learns_what_single_precision_learns(device, precision, data, single, tmp_path):
    found = losses(train(data, tmp_path, device, *precision))
    assert len(found) == UPDATES
    assert found == pytest.approx(single, abs=ROUNDED)


@needs_gpu
def test_the_loss_scale_falls_until_gradients_are_finite(data, single, tmp_path):
    """On a GPU (cuda): updates whose gradients overflow are left out, and the rest is training as ever."""
    scale = ("--fp16-init-scale", str(2**40), "--fp16-scale-window", "4")
    finished = train(data, tmp_path, "cuda", "--fp16", *scale, "--max-epoch", "4", "--max-update", "10")
    assert finished.output.count("gradient overflow detected") > 5
    scales = [float(entry["loss_scale"]) for entry in finished.logged("train_inner")]
    assert 1 <= min(scales) <= max(scales) < 2**40
    assert losses(finished)[-1] < single[0] - 1


@pytest.mark.parametrize(("device", "precision"), [each for each in EACH if "16" in each.id])
def test_a_run_goes_on_where_it_stopped(device, precision, data, tmp_path):
    whole = train(data, tmp_path / "whole", device, *precision)
    first = train(data, tmp_path / "parts", device, *precision, "--max-update", "5")
    rest = train(data, tmp_path / "parts", device, *precision)
    assert losses(first, rest) == pytest.approx(losses(whole), abs=ROUNDED / 5)  # a GPU sums in any order


@pytest.mark.parametrize("device", DEVICES)
def test_torchs_own_data_parallel_on_one_process_is_one_process(device, data, single, tmp_path):
    flags = ("--ddp-backend", "c10d", "--distributed-world-size", "1")
    assert losses(train(data, tmp_path, device, *flags)) == pytest.approx(single, abs=ROUNDED)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("skip", ["plain", "recursive"])
def test_the_reference_form_learns_the_same(device, skip, data, tmp_path):
    """The kernels beside fairseq's operations, through a whole epoch."""
    fast, reference = (
        losses(train(data, tmp_path / form, device, "--skip-type", skip, "--kernels", form))
        for form in ("fast", "reference")
    )
    assert fast == pytest.approx(reference, abs=ROUNDED / 5)


@pytest.mark.parametrize(("device", "precision"), [each for each in EACH if "amp" not in each.id])
def test_translations_are_those_of_single_precision(device, precision, data, trained):
    def generate(*flags):
        flags = ("--path", trained.checkpoint, "--max-len-b", "20", *flags)
        return hypotheses(run("fairseq-generate", data, *flags))

    expected = generate("--cpu")
    found = generate(*(["--cpu"] if device == "cpu" else []), *precision)
    assert expected.keys() == found.keys()
    same = sum(expected[number] == found[number] for number in expected)
    assert same >= 0.8 * len(expected)  # near ties may be settled otherwise
