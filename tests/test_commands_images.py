"""fairseq-train, fairseq-validate and the attack on images: digits, which need no download."""

import json

import numpy as np
import pytest
import torch
from conftest import run
from PIL import Image

from skipln_fairseq.attack import __main__ as attack
from skipln_fairseq.errors import UserError
from skipln_fairseq.images import predict

TRAIN = (
    *("--task", "image_classification", "--criterion", "image_cross_entropy", "--optimizer", "sgd"),
    *("--momentum", "0.9", "--lr", "0.05", "--batch-size", "64", "--cpu", "--num-workers", "0"),
    *(
        "--no-flip",
        "--crop-padding",
        "1",
        "--log-format",
        "json",
        "--log-interval",
        "1",
        "--no-epoch-checkpoints",
    ),
    *("--best-checkpoint-metric", "top1", "--maximize-best-checkpoint-metric"),
)


def train(folder, *flags, data="digits", **how):
    arch = () if "--arch" in flags else ("--arch", "preact_resnet20")
    return run("fairseq-train", data, *TRAIN, *arch, "--save-dir", folder, *flags, **how)


def validate(checkpoint, *flags, data="digits", **how):
    task = ("--task", "image_classification", "--path", checkpoint, "--cpu", "--batch-size", "120")
    return run("fairseq-validate", data, *task, *flags, **how)


def weights(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two models of digits, a few epochs old."""
    folder = tmp_path_factory.mktemp("digits")
    printed = train(folder / "rskip", "--max-epoch", "8", "--arch", "preact_resnet20_rskip")
    train(folder / "plain", "--max-epoch", "6")
    return folder, printed


def test_digits_are_learnt(digits):
    _, printed = digits
    last = printed.logged("valid")[-1]
    assert float(last["valid_top1"]) > 75
    assert float(last["valid_top5"]) > float(last["valid_top1"])
    assert float(last["valid_nll_loss"]) < 1.5


def test_the_test_set_is_measured_by_validate(digits):
    folder, _ = digits
    printed = validate(
        folder / "rskip" / "checkpoint_best.pt", "--valid-subset", "test", "--log-format", "json"
    )
    (found,) = printed.logged("test")
    assert float(found["test_top1"]) > 70


def test_ranks_of_the_right_class_are_written(digits, tmp_path):
    """As many first places as the accuracy that fairseq-validate gives."""
    folder, _ = digits
    checkpoint = folder / "rskip" / "checkpoint_best.pt"
    predict.main(["--path", str(checkpoint), "--output", str(tmp_path / "ranks"), "--batch-size", "100"])
    ranks = [int(line) for line in (tmp_path / "ranks").read_text().splitlines()]
    assert len(ranks) == 360
    assert set(ranks) <= set(range(1, 11))
    (found,) = validate(checkpoint, "--valid-subset", "test", "--log-format", "json").logged("test")
    assert float(found["test_top1"]) == pytest.approx(100 * ranks.count(1) / 360, abs=0.01)
    assert float(found["test_top5"]) == pytest.approx(100 * sum(r <= 5 for r in ranks) / 360, abs=0.01)
    predict.main(["--path", "none.pt", "--output", str(tmp_path / "ranks"), "--data", "digits", "--diverged"])
    assert (tmp_path / "ranks").read_text() == "0\n" * 360
    with pytest.raises(UserError, match="no split valid7"):
        predict.main(["--path", str(checkpoint), "--output", str(tmp_path / "x"), "--split", "valid7"])


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path):
    """With crops and an epoch's end between."""
    whole = train(tmp_path / "whole", "--max-update", "30")
    first = train(tmp_path / "parts", "--max-update", "12")
    rest = train(tmp_path / "parts", "--max-update", "30")
    assert first.losses() + rest.losses() == whole.losses()
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "parts").items())


def test_workers_do_not_change_the_images(tmp_path):
    alone = train(tmp_path / "a", "--max-update", "5", "--no-save")
    workers = train(tmp_path / "b", "--max-update", "5", "--no-save", "--num-workers", "2")
    assert workers.losses() == alone.losses()


@pytest.mark.parametrize("precision", [(), ("--bf16",)], ids=["fp32", "bf16"])
def test_filters_lose_their_means_at_every_step(tmp_path, precision):
    train(tmp_path, "--arch", "mimicnorm_vgg11", "--max-update", "3", "--lr", "0.01", *precision)
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    filters = [value for name, value in state["model"].items() if value.dim() == 4 and value[0].numel() > 50]
    assert len(filters) == 7
    tolerance = 1e-3 if precision else 1e-7  # what is rounded to 8 bits has a mean again
    assert max(each.float().mean((1, 2, 3)).abs().max() for each in filters) < tolerance
    if precision:
        masters = state["last_optimizer_state"]["fp32_params"]
        filters = [each for each in masters if each.dim() == 4 and each[0].numel() > 50]
        assert len(filters) == 7
        assert max(each.mean((1, 2, 3)).abs().max() for each in filters) < 1e-7


def test_a_folder_of_images_is_trained_on(tmp_path):
    rng = np.random.default_rng(1)
    for part, count in (("train", 20), ("valid", 6)):
        for name, value in (("dark", 40), ("light", 200)):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(value, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
    printed = train(tmp_path / "out", "--max-epoch", "6", "--batch-size", "20", data=tmp_path / "data")
    assert float(printed.logged("valid")[-1]["valid_top1"]) == 100


@pytest.mark.parametrize(
    ("flags", "data", "message"),
    [
        ((), "nowhere", "nowhere: no images: valid are"),
        (
            ("--image-format", "png"),
            "digits",
            "--image-format png: valid are auto, cifar, idx, folders, digits",
        ),
        (("--held-out", "1"), "digits", "--held-out 1.0: valid is between 0 and 1"),
        (("--crop-padding", "-1"), "digits", "--crop-padding -1: valid is 0 or more"),
        (("--label-smoothing", "1"), "digits", "--label-smoothing 1.0: valid is from 0 to below 1"),
        (("--skip-order", "2"), "digits", "--skip-order belongs to --skip-type recursive"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, flags, data, message):
    ended = train(tmp_path, *flags, "--max-update", "1", data=data, succeeds=False)
    assert ended.output.splitlines()[-1].startswith(f"skipln_fairseq: error: {message}")
    assert "Traceback" not in ended.output


def test_a_model_of_images_is_none_for_translation(data):
    flags = ("--arch", "preact_resnet20", "--optimizer", "sgd", "--cpu", "--batch-size", "4")
    ended = run("fairseq-train", data, *flags, succeeds=False)
    assert "--arch preact_resnet20 is for --task image_classification" in ended.output.splitlines()[-1]


# --- the attack --------------------------------------------------------------------------------


def test_images_that_fool_one_model_are_tried_on_another(digits, tmp_path, capsys):
    folder, _ = digits
    checkpoints = [str(folder / name / "checkpoint_best.pt") for name in ("rskip", "plain")]
    arguments = ["--source", checkpoints[0], "--targets", checkpoints[1], "--gammas", "1", "0.5"]
    arguments += ["--images", "60", "--epsilon", "0.2", "--step", "0.05", "--output", str(tmp_path)]
    attack.main(arguments)
    content = json.loads((tmp_path / "transfer.json").read_text())
    assert content["targets"] == ["rskip", "plain"]
    own, other = content["results"]["PGD"]
    assert own["of"] >= other["of"] > 20
    assert own["fooled"] / own["of"] > 0.9
    assert 0 < other["fooled"] <= other["of"]
    assert set(content["results"]) == {"PGD", "SGM γ = 0.5"}
    assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")
    assert "| PGD |" in (tmp_path / "transfer.md").read_text()
    again = tmp_path / "again"
    attack.main([*arguments[:-1], str(again)])
    assert json.loads((again / "transfer.json").read_text())["results"] == content["results"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gammas", "0"], "--gammas 0: valid is above 0 and at most 1"),
        (["--gammas", "1.5"], "--gammas 1.5"),
        (["--gammas", "x"], "--gammas x: valid is a number"),
        (["--epsilon", "0"], "--epsilon 0.0: valid is above 0"),
        (["--epsilon", "8/0"], "--epsilon 8/0: valid is a number"),
        (["--steps", "0"], "--steps 0: valid is a whole number"),
        (["--momentum", "-1"], "--momentum -1.0: valid is 0 or more"),
        (["--images", "0"], "--images 0: valid is a whole number"),
        (["--source", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    ],
)
def test_numbers_out_of_range_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        attack.main(["--source", "none.pt", *flags])


def test_a_translation_model_is_not_attacked(trained):
    with pytest.raises(UserError, match="and no model of images"):
        attack.main(["--source", str(trained.checkpoint)])
