"""The task: which images are trained on, held out and tried, and what a checkpoint knows of them."""

import argparse
import json
import pickle
import shutil
import sys
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skipln_fairseq.common.errors import UserError, print_user_errors_in_one_line
from skipln_fairseq.images.criterion import ImageCrossEntropy
from skipln_fairseq.images.data import moments, read_split, recognise
from skipln_fairseq.images.data.idx import read_idx
from skipln_fairseq.images.task import ImageClassificationTask
from tests.support.image_files import write_cifar10, write_folders, write_idx, write_mnist


def task(folder, training=True, **options):
    parser = argparse.ArgumentParser()
    ImageClassificationTask.add_args(parser)
    flags = vars(parser.parse_args([str(folder), "--held-out", "0.25", "--crop-padding", "2"]))
    return ImageClassificationTask(Namespace(**{**flags, "seed": 1, **options}), training)


def built(of_images, from_checkpoint=False, **flags):
    args = Namespace(arch="preact_resnet20", depth=8, **{"skip_type": "plain", **flags})
    return of_images.build_model(args, from_checkpoint)


def test_all_splits_have_the_size_of_the_training_images(tmp_path):
    write_folders(tmp_path, parts=("train",), size=(9, 9))
    write_folders(tmp_path, parts=("test",), size=(20, 20))
    of_images = task(tmp_path)
    for split in ("train", "valid", "test"):
        of_images.load_dataset(split)
        assert of_images.dataset(split)[0][1].shape == (9, 9, 3)


def test_what_is_held_out_is_in_no_other_part_and_not_normalised_by(tmp_path):
    write_folders(tmp_path, parts=("train",))
    of_images = task(tmp_path)
    numbers = {}
    for split in ("train", "valid"):
        of_images.load_dataset(split)
        numbers[split] = of_images.dataset(split).numbers.tolist()
    assert sorted(numbers["train"] + numbers["valid"]) == list(range(8))
    assert len(numbers["valid"]) == 2
    images, mean = of_images.dataset("train").images, built(of_images).mean.flatten()
    torch.testing.assert_close(mean, torch.tensor(moments(images, np.array(numbers["train"]))[0]))
    assert not torch.allclose(mean, torch.tensor(moments(images, np.arange(8))[0]), atol=1e-4)
    with pytest.raises(UserError, match="no split test"):
        of_images.load_dataset("test")


def test_all_that_is_known_of_training_images_is_of_the_split_that_is_trained_on(tmp_path):
    write_folders(tmp_path, parts=("train",), size=(9, 9))
    write_folders(tmp_path, parts=("extra",), size=(6, 6))
    (tmp_path / "extra" / "cat").rename(tmp_path / "extra" / "eel")
    of_images = task(tmp_path, train_subset="extra")
    assert (of_images.classes, of_images.size) == (["dog", "eel"], 6)
    parts = [of_images.images_of(split).numbers.tolist() for split in ("extra", "valid")]
    assert sorted(parts[0] + parts[1]) == list(range(8))
    images = of_images.images_of("extra").images
    mean = torch.tensor(moments(images, np.array(parts[0]))[0])
    torch.testing.assert_close(built(of_images).mean.flatten(), mean)
    with pytest.raises(UserError, match="no training images: no split more"):
        assert task(tmp_path, train_subset="more").size


def test_what_is_trained_on_alone_is_changed_by_chance(tmp_path):
    """Whatever it is called."""
    write_folders(tmp_path, parts=("train", "extra"), size=(7, 7))
    of_images = task(tmp_path, train_subset="extra")
    for split in ("extra", "train"):
        of_images.load_dataset(split)
        found = of_images.dataset(split)
        assert (found.padding, found.flip, found.shuffle) == (
            (2, True, True) if split == "extra" else (None, False, False)
        )
    plain = of_images.images_of("extra")
    assert (plain.padding, plain.flip, plain.shuffle) == (None, False, False)
    evaluating = task(tmp_path, training=False)
    evaluating.load_dataset("train")
    assert not evaluating.dataset("train").shuffle


def trained_elsewhere(folder):
    """A checkpoint's task, on other data than those it was trained on."""
    (folder / "old").mkdir()
    write_folders(folder / "old", parts=("train",), size=(9, 9))
    state = task(folder / "old")
    assert state.size == 9
    other = folder / "new"
    other.mkdir()
    return state.state_dict(), other


def test_a_checkpoints_task_needs_no_training_images(tmp_path):
    state, other = trained_elsewhere(tmp_path)
    write_folders(other, parts=("test",), size=(30, 30))
    (other / "test" / "cat").rename(other / "test" / "hidden")
    shutil.rmtree(other / "test" / "hidden")
    of_images = task(other, training=False)
    of_images.load_state_dict(json.loads(json.dumps(state)))
    images = of_images.images_of("test")
    assert images[0][1].shape == (9, 9, 3)
    assert {label for _, _, label in (images[n] for n in range(len(images)))} == {
        1
    }  # dogs are what they were
    assert built(of_images, from_checkpoint=True).mean.count_nonzero() == 0  # until it is loaded


def test_data_of_another_model_are_refused(tmp_path):
    state, other = trained_elsewhere(tmp_path)
    write_mnist(other, "")
    of_images = task(other, training=False)
    of_images.load_state_dict(state)
    with pytest.raises(UserError, match="images of 28 × 28 pixels, where 9 × 9 are needed"):
        of_images.images_of("test")
    with pytest.raises(UserError, match="images of 1 channels, where 3 are needed"):
        read_split("idx", other, "test", channels=3)
    with pytest.raises(UserError, match="the classes are not those of the model: 0"):
        read_split("idx", other, "test", classes=["cat"] * 10)


def test_images_that_are_not_square_are_refused(tmp_path):
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", np.zeros((4, 6, 5), np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(UserError, match="images of 6 × 5 pixels: valid are square ones"):
        assert task(tmp_path).size


def test_idx_has_the_models_classes_or_as_many_as_its_labels(tmp_path):
    write_mnist(tmp_path, "")
    assert read_idx(tmp_path, "test").classes == [str(n) for n in range(10)]
    assert len(read_idx(tmp_path, "test", [str(n) for n in range(12)]).classes) == 12
    for part in ("images-idx3", "labels-idx1"):
        empty = np.zeros((0, 28, 28) if part == "images-idx3" else 0, np.uint8)
        write_idx(tmp_path / f"t10k-{part}-ubyte", empty)
    with pytest.raises(UserError, match="no images for test"):
        read_split("idx", tmp_path, "test")


def test_idx_files_of_the_test_alone_are_recognised(tmp_path):
    write_mnist(tmp_path, "")
    for file in tmp_path.glob("train-*"):
        file.unlink()
    assert recognise(tmp_path) == "idx"


def test_a_cifar_part_without_images_is_refused(tmp_path):
    write_cifar10(tmp_path)
    empty = {b"data": np.zeros((0, 3072), np.uint8), b"labels": []}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(empty, 4))
    with pytest.raises(UserError, match="no images for test"):
        read_split("cifar", tmp_path, "test")
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"\ud800": 1}, 4))
    with pytest.raises(UserError, match="not a file of CIFAR's python version"):
        read_split("cifar", tmp_path, "test")


def test_what_is_trained_on_is_not_tried_in_training(tmp_path):
    write_folders(tmp_path)
    with pytest.raises(UserError, match="to measure the training set use fairseq-validate"):
        task(tmp_path, train_subset="train", valid_subset="valid,train")
    task(tmp_path, training=False, train_subset="train", valid_subset="valid,train")


def test_other_training_images_are_told(tmp_path):
    write_folders(tmp_path, size=(9, 9))
    of_images = task(tmp_path)
    same = {**of_images.state.images}
    assert of_images.changes({"images": same}) == of_images.changes({}) == []
    stored = {**same, "classes": ["apple", "zebra"], "size": 8}
    found = of_images.changes({"images": stored})
    assert found == ["classes ['apple', 'zebra'] → ['cat', 'dog']", "size 8 → 9"]


def test_what_was_held_out_stays_so(tmp_path):
    """Or a model would be validated on images that it was trained on."""
    write_folders(tmp_path, parts=("train",))
    stored = {"division": task(tmp_path, held_out=0.3, data_seed=2).state.division}
    assert task(tmp_path, held_out=0.3, data_seed=2).changes(stored) == []
    other = task(tmp_path, held_out=0.5, data_seed=1)
    assert other.changes(stored) == ["held-out 0.3 → 0.5", "data-seed 2 → 1"]
    assert task(tmp_path, held_out=0.3, data_seed=2).state_dict()["division"] == stored["division"]
    write_folders(tmp_path, parts=("valid",))
    assert task(tmp_path).state.division == {}
    with_valid = task(tmp_path).state_dict()
    assert (
        task(tmp_path).changes(stored)[0] == f"training images {stored['division']['training images']} → None"
    )
    shutil.rmtree(tmp_path / "valid")
    assert "held-out None → 0.25" in task(tmp_path, held_out=0.25).changes(with_valid)


def test_the_digits_are_in_no_folder(tmp_path):
    with pytest.raises(UserError, match="--image-format digits: DATA is the word digits, not /"):
        task(tmp_path, image_format="digits")
    task("digits", image_format="digits")


def test_logits_that_are_no_numbers_rank_no_class_first(tmp_path):
    write_folders(tmp_path)
    for logits in (torch.full((4, 10), torch.nan), torch.zeros(4, 10)):
        sample = {"net_input": {}, "target": torch.tensor([0, 1, 2, 9])}
        _, _, output = ImageCrossEntropy(task(tmp_path), 0.0)(lambda logits=logits: logits, sample)
        assert (output["top1"], output["top5"]) == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 0.99}, "--held-out 0.99 of 8 images leaves none to train on"),
        ({"image_size": 0}, "--image-size 0: valid is a whole number of at least 1"),
        ({"data_seed": -1}, "--data-seed -1: valid is a whole number of at least 0"),
    ],
)
def test_flags_that_leave_no_images_are_refused(tmp_path, options, message):
    write_folders(tmp_path, parts=("train",))
    with pytest.raises(UserError, match=message):
        task(tmp_path, **options).load_dataset("train")


@pytest.mark.parametrize("norm", ["none", "batch", "power"])
def test_a_batch_that_stands_in_teaches_nothing(tmp_path, norm):
    """As fairseq has it where data-parallel workers have not as many batches as the others."""
    write_folders(tmp_path)
    of_images = task(tmp_path)
    model, data = built(of_images, skip_norm=norm), of_images.images_of("train")
    sample = data.collater([data[0], data[1]])
    optimizer = SimpleNamespace(backward=lambda loss: loss.backward())
    criterion = ImageCrossEntropy(of_images, 0.0)
    before = {name: value.clone() for name, value in model.named_buffers()}
    for stands_in in (True, False):
        of_images.train_step(sample, model, criterion, optimizer, 0, ignore_grad=stands_in)
        moved = [name for name, value in model.named_buffers() if not torch.equal(value, before[name])]
        assert bool(moved) is not stands_in
        assert all("running" in name or name.endswith("batches") for name in moved)
    assert norm == "none" or any("connection" in name for name in moved)


def test_workers_average_before_they_validate(tmp_path, monkeypatch):
    write_folders(tmp_path)
    seen = []
    monkeypatch.setattr("skipln_fairseq.images.task.average_running_statistics", seen.append)
    task(tmp_path).begin_valid_epoch(1, "the model")
    assert seen == ["the model"]


def test_an_error_of_a_process_that_loads_data_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    print_user_errors_in_one_line()
    message = (
        "Caught UserError in DataLoader worker 0.\nOriginal Traceback …\nerrors.UserError: a.png: broken\n"
    )
    for text, line in ((message, "a.png: broken"), ("b.png: broken", "b.png: broken")):
        sys.excepthook(UserError, UserError(text), None)
        assert capsys.readouterr().err == f"skipln_fairseq: error: {line}\n"
