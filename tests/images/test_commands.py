"""fairseq-train and fairseq-validate on images."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.compat.test_torchrun import free_port
from tests.support.commands import TRAIN as TRAIN_TRANSLATION
from tests.support.commands import run, run_isolated
from tests.support.image_commands import TRAIN, train, validate, weights


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


@pytest.mark.parametrize(
    "flags",
    [
        ("--arch", "preact_resnet20"),
        ("--arch", "preact_resnet20_rskip", "--skip-norm", "batch", "--bf16"),
        ("--arch", "mimicnorm_resnet18", "--lr", "0.01"),
        ("--arch", "vgg11", "--normalisation", "mimic", "--lr", "0.01", "--bf16"),
    ],
    ids=lambda flags: " ".join(flags),
)
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path, flags):
    """With crops and an epoch's end between; three small batches, as many processors have no bfloat16 of their own."""
    flags = (*flags, "--batch-size", "8", "--held-out", "0.984", "--disable-validation")
    whole = train(tmp_path / "whole", "--max-update", "5", *flags)
    first = train(tmp_path / "parts", "--max-update", "2", *flags)
    rest = train(tmp_path / "parts", "--max-update", "5", *flags)
    assert [entry["epoch"] for entry in whole.logged("train_inner")] == [1, 1, 1, 2, 2]
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


def test_a_run_resumes_only_with_the_images_that_it_held_out(tmp_path):
    """Or it would be validated on images that it was trained on."""
    train(tmp_path, "--max-update", "1")
    for flags, message in (
        (("--data-seed", "7"), "data-seed 1 → 7"),
        (("--held-out", "0.5"), "held-out 0.1 → 0.5"),
    ):
        ended = train(tmp_path, *flags, "--max-update", "2", succeeds=False)
        assert f"was trained on other data: {message}" in ended.output.splitlines()[-1]
    train(tmp_path, "--max-update", "2")


def test_images_are_not_translated(digits):
    path = digits[0] / "plain" / "checkpoint_best.pt"
    task = ("--task", "image_classification", "--path", path, "--cpu")
    ended = run("fairseq-generate", "digits", *task, succeeds=False)
    assert ended.output.splitlines()[-1].startswith(
        "skipln_fairseq: error: --task image_classification: images are classified"
    )
    assert "Traceback" not in ended.output


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
    mimic = ("--arch", "vgg11", "--normalisation", "mimic")
    few = ("--max-update", "3", "--batch-size", "8", "--disable-validation")
    train(tmp_path, *mimic, *few, "--lr", "0.01", *precision)
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
        (("--max-tokens", "0"), "digits", "--max-tokens 0: valid is a whole number from 1"),
        (("--held-out", "1"), "digits", "--held-out 1.0: valid is between 0 and 1"),
        (("--crop-padding", "-1"), "digits", "--crop-padding -1: valid is a whole number of at least 0"),
        (("--label-smoothing", "1"), "digits", "--label-smoothing 1.0: valid is from 0 to below 1"),
        (
            ("--arch", "transformer"),
            "digits",
            "--arch transformer: no model of images, which --task image_class",
        ),
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
    flags = (*TRAIN_TRANSLATION, "--criterion", "image_cross_entropy", "--no-save")
    ended = run("fairseq-train", data, *flags, succeeds=False)
    assert "--criterion image_cross_entropy is for --task image_class" in ended.output.splitlines()[-1]
