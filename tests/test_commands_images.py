"""fairseq-train, fairseq-validate and the attack on images: digits, which need no download."""

import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TRAIN as TRAIN_TRANSLATION
from conftest import run, run_isolated
from PIL import Image
from test_compat_torchrun import free_port

from skipln_fairseq.attack import __main__ as attack
from skipln_fairseq.attack.transfer import Success, _names, success
from skipln_fairseq.errors import UserError
from skipln_fairseq.images import predict
from skipln_fairseq.images.task import ImageClassificationTask

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
    with pytest.raises(UserError, match="no split valid7"):
        predict.main(["--path", str(checkpoint), "--output", str(tmp_path / "x"), "--split", "valid7"])


@pytest.mark.parametrize(
    ("split", "training", "count"),
    [
        ("test", ("--lr", "0.1", "--arch", "vgg11"), 360),
        ("valid", ("--lr", "0.1", "--no-flip"), 144),
        ("valid", ("--cpu", "--held-out", "0.5", "--data-seed", "2"), 718),
        ("valid", ("--train-subset", "test"), 36),
    ],
)
def test_what_has_no_model_has_no_rank(tmp_path, split, training, count):
    flags = ["--path", "none.pt", "--output", str(tmp_path / "new" / "ranks"), "--data", "digits"]
    predict.main([*flags, "--split", split, "--diverged", *training])
    assert (tmp_path / "new" / "ranks").read_text() == "0\n" * count


@pytest.mark.parametrize(
    "flags",
    [
        ("--arch", "preact_resnet20"),
        ("--arch", "preact_resnet20_rskip", "--skip-norm", "batch", "--bf16"),
        ("--arch", "mimicnorm_vgg11", "--lr", "0.01"),
        ("--arch", "mimicnorm_resnet18", "--lr", "0.01", "--bf16"),
    ],
    ids=lambda flags: " ".join(flags),
)
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path, flags):
    """With crops and an epoch's end between."""
    whole = train(tmp_path / "whole", "--max-update", "26", *flags)
    first = train(tmp_path / "parts", "--max-update", "12", *flags)
    rest = train(tmp_path / "parts", "--max-update", "26", *flags)
    assert first.losses() + rest.losses() == whole.losses()
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "parts").items())


RSKIP = ("--arch", "preact_resnet20_rskip")


def test_a_run_resumes_only_as_the_model_it_was(tmp_path):
    train(tmp_path, *RSKIP, "--max-update", "1")
    for flags, message in (
        ((*RSKIP, "--skip-order", "3"), "was trained with other connections: order 2 → 3."),
        (("--arch", "vgg11"), "is of another network: model preact_resnet → vgg11"),
    ):
        ended = train(tmp_path, *flags, "--max-update", "2", succeeds=False)
        last = ended.output.splitlines()[-1]
        assert last.startswith("skipln_fairseq: error: ")
        assert message in last


def test_a_run_resumes_only_with_the_images_it_had(tmp_path):
    for data, names in (("a", ("cat", "dog")), ("b", ("cat", "eel"))):
        for name in names:
            (tmp_path / data / "train" / name).mkdir(parents=True)
            for number in range(8):
                Image.new("L", (8, 8), number).save(tmp_path / data / "train" / name / f"{number}.png")
    train(tmp_path / "out", "--max-update", "1", data=tmp_path / "a")
    ended = train(tmp_path / "out", "--max-update", "2", data=tmp_path / "b", succeeds=False)
    message = "was trained on other data: classes ['cat', 'dog'] → ['cat', 'eel']"
    assert message in ended.output.splitlines()[-1]


def test_what_is_said_again_is_no_change(tmp_path):
    train(tmp_path, *RSKIP, "--max-update", "1")
    train(tmp_path, *RSKIP, "--skip-order", "2", "--skip-norm", "layer", "--max-update", "2")


def test_fine_tuning_may_change_connections(tmp_path):
    train(tmp_path / "plain", "--max-update", "3")
    flags = ("--finetune-from-model", tmp_path / "plain" / "checkpoint_last.pt", "--lr", "0")
    printed = train(tmp_path / "rskip", *RSKIP, *flags, "--max-update", "1")
    assert "skip plain → recursive; norm none → layer" in printed.output
    assert "starting fresh: net.blocks.0.connection.connection." in printed.output
    before, after = weights(tmp_path / "plain"), weights(tmp_path / "rskip")
    assert torch.equal(before["net.conv.weight"], after["net.conv.weight"])
    ended = train(tmp_path / "deep", "--depth", "26", *flags, "--max-update", "1", succeeds=False)
    assert "is of another network: depth 20 → 26" in ended.output.splitlines()[-1]


def test_a_model_of_other_classes_is_not_fine_tuned(digits, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), number).save(tmp_path / "data" / "train" / name / f"{number}.png")
    checkpoint = digits[0] / "plain" / "checkpoint_best.pt"
    ended = train(
        tmp_path / "out", "--finetune-from-model", checkpoint, data=tmp_path / "data", succeeds=False
    )
    assert (
        "is of another network: mean is 1 × 1 × 1 there and 3 × 1 × 1 here" in ended.output.splitlines()[-1]
    )


def test_images_and_translation_are_other_networks(digits, trained, data, tmp_path):
    flags = ("--finetune-from-model", trained.checkpoint)
    ended = train(tmp_path, *flags, succeeds=False)
    message = "is of another network: transformer_rskip_tiny → preact_resnet20"
    assert ended.output.splitlines()[-1].endswith(message)
    flags = ("--finetune-from-model", digits[0] / "plain" / "checkpoint_best.pt", "--save-dir", tmp_path)
    for arch in ("transformer_rskip_tiny", "transformer"):
        ended = run("fairseq-train", data, *TRAIN_TRANSLATION, "--arch", arch, *flags, succeeds=False)
        message = f"is of another network: preact_resnet20 → {arch}"
        assert ended.output.splitlines()[-1].endswith(message)


def test_ranks_count_from_the_likeliest_and_equal_ones_are_not_likelier():
    logits = torch.tensor(
        [[3.0, 1, 2], [1, 1, 1], [0, 5, 5], [math.nan, 1, 2], [1, math.nan, 0], [math.nan] * 3]
    )
    assert predict.ranked(logits, torch.tensor([2, 0, 1, 0, 0, 1])).tolist() == [2, 3, 2, 3, 2, 3]


def test_a_checkpoint_takes_its_normalisation_along(tmp_path):
    """The test images of a folder, with its training images and without them."""
    checkpoint = train_on_colours(tmp_path)
    shutil.copytree(tmp_path / "colours" / "test", tmp_path / "alone" / "test")
    ranks = {}
    for data in ("colours", "alone"):
        flags = ["--data", str(tmp_path / data), "--output", str(tmp_path / f"{data}.txt")]
        predict.main(["--path", str(checkpoint), *flags])
        ranks[data] = (tmp_path / f"{data}.txt").read_text().splitlines()
    assert ranks["colours"] == ranks["alone"]
    assert ranks["alone"].count("1") > 100


def untrained(data):
    parser = argparse.ArgumentParser()
    ImageClassificationTask.add_args(parser)
    return parser.parse_args([data])


def train_on_colours(folder):
    """A model of the digits in files, with training images that are darker than those that it is tried on."""
    task = ImageClassificationTask(untrained("digits"))
    for split, fade in (("train", 0.8), ("test", 1)):
        images = task.images_of(split)
        for index in range(len(images)):
            _, image, label = images[index]
            place = folder / "colours" / split / str(label) / f"{index:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat((image * fade).astype(np.uint8), 3, 2)).save(place)
    train(folder / "out", "--max-epoch", "4", data=folder / "colours")
    return folder / "out" / "checkpoint_best.pt"


def test_half_precision_is_validated(digits):
    folder, _ = digits
    flags = (folder / "plain" / "checkpoint_best.pt", "--valid-subset", "test", "--log-format", "json")
    whole, half = (validate(*flags, *more).logged("test")[-1] for more in ((), ("--fp16",)))
    assert float(half["test_top1"]) == pytest.approx(float(whole["test_top1"]), abs=1)


def test_filters_lose_their_means_under_torchrun(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", free_port())
    flags = ("--arch", "mimicnorm_resnet18", "--lr", "0.01", "--max-epoch", "1")
    program = (*torchrun, "-m", "fairseq_cli.train", "digits")
    run_isolated(*program, *TRAIN, *flags, "--user-dir", "skipln_fairseq", "--save-dir", tmp_path)
    state = weights(tmp_path)
    filters = [value for name, value in state.items() if value.dim() == 4 and value[0].numel() > 50]
    assert max(each.mean((1, 2, 3)).abs().max() for each in filters) < 1e-7


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
        (("--held-out", "0.9999"), "digits", "--held-out 0.9999 of 1437 images leaves none to train on"),
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


class Fixed:
    """A model that says of each image what a table says."""

    def __init__(self, answers):
        self.answers = answers

    def predict(self, images):
        return torch.tensor([self.answers[image.item()] for image in images])


def test_success_is_counted_over_what_both_get_right():
    """Five images of class 0, and what they become when they are changed, 10 more."""
    images = torch.arange(5)
    source = Fixed({0: 0, 1: 0, 2: 0, 3: 1, 4: 0})
    target = Fixed({0: 0, 1: 0, 2: 1, 3: 0, 4: 0, 10: 1, 11: 0, 12: 1, 13: 1, 14: 2})
    assert success(source, target, images, images + 10, torch.zeros(5)) == Success(fooled=2, of=3)


def test_checkpoints_of_one_folder_are_told_apart(digits, tmp_path):
    folder, _ = digits
    files = [str(folder / "plain" / f"checkpoint_{name}.pt") for name in ("best", "last")]
    flags = ["--gammas", "1", "--images", "5", "--steps", "1", "--output", str(tmp_path)]
    attack.main(["--source", files[0], "--targets", files[1], *flags])
    found = json.loads((tmp_path / "transfer.json").read_text())["targets"]
    assert found == ["checkpoint_best.pt", "checkpoint_last.pt"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/one.pt"], ["a"]),
        (["one.pt"], ["one.pt"]),
        (["a/b/one.pt", "a/b/one.pt"], ["b", "b"]),
        (["a/b/c/one.pt", "a/d/c/one.pt"], ["b/c", "d/c"]),
        (["/a/one.pt", "/a/b/two.pt"], ["one.pt", "b/two.pt"]),
    ],
)
def test_checkpoints_are_called_what_tells_them_apart(files, names):
    assert _names([Path(file) for file in files]) == names


def test_models_of_other_images_are_refused(digits, tmp_path):
    folder, _ = digits
    (tmp_path / "colours").mkdir()
    other = train_on_colours(tmp_path)
    with pytest.raises(UserError, match="knows images of other channels than"):
        attack.main(["--source", str(folder / "plain" / "checkpoint_best.pt"), "--targets", str(other)])


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
        (["--epsilon", "1e999"], "--epsilon 1e999: valid is a number"),
        (["--seed", "-1"], "--seed -1: valid is 0 or more"),
        (["--output", __file__], "a file, and no folder"),
        (["--source", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    ],
)
def test_numbers_out_of_range_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        attack.main(["--source", "none.pt", *flags])


def test_a_translation_model_is_not_attacked(trained, tmp_path):
    """Nor are its data asked for."""
    state = torch.load(trained.checkpoint, weights_only=False)
    state["cfg"]["task"]["data"] = "gone"
    torch.save(state, tmp_path / "moved.pt")
    for main, flag in ((attack.main, "--source"), (predict.main, "--path")):
        with pytest.raises(UserError, match="a model of the task translation, and no model of images"):
            main([flag, str(tmp_path / "moved.pt"), "--output", str(tmp_path / "out")])
