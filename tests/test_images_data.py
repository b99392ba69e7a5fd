"""Images: CIFAR's pickles, IDX files, folders, digits; what chance does to them, and what it does not."""

import argparse
import gzip
import io
import json
import math
import pickle
import shutil
import struct
import sys
from argparse import Namespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skipln_fairseq.errors import UserError, print_user_errors_in_one_line
from skipln_fairseq.images.data import ImageDataset, folders, moments, read_split, recognise
from skipln_fairseq.images.data.augment import augmented
from skipln_fairseq.images.data.cifar import read_cifar
from skipln_fairseq.images.data.digits import read_digits
from skipln_fairseq.images.data.folders import FileImages, read_folders
from skipln_fairseq.images.data.idx import read_idx
from skipln_fairseq.images.data.images import ArrayImages
from skipln_fairseq.images.task import ImageClassificationTask

RNG = np.random.default_rng(1)


# --- CIFAR -------------------------------------------------------------------------------------


class _Python2Pickler(pickle._Pickler):
    """Writes all strings as Python 2 wrote its: the published files are of that time."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text.encode() if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2(content):
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def write_cifar10(folder, count=6):
    """As its authors' Python 2 wrote it: strings are bytes."""
    pixels = RNG.integers(0, 256, (6, count, 3072), dtype=np.uint8)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = {b"data": pixels[number], b"labels": [n % 10 for n in range(count)], b"batch_label": b"x"}
        (folder / name).write_bytes(python2(batch))
    meta = {b"label_names": [f"class {n}".encode() for n in range(10)], b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(python2(meta))
    return pixels


def test_cifar10_is_read_as_it_was_written(tmp_path):
    pixels = write_cifar10(tmp_path)
    assert recognise(tmp_path) == "cifar"
    train, test = read_cifar(tmp_path, "train"), read_cifar(tmp_path, "test")
    assert train.pixels.shape == (30, 32, 32, 3)
    assert len(test) == 6
    assert train.classes[3] == "class 3"
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5] * 5
    # red, then green, then blue, each row by row
    red, green = pixels[1, 2, :1024].reshape(32, 32), pixels[1, 2, 1024:2048].reshape(32, 32)
    np.testing.assert_array_equal(train[8][..., 0], red)
    np.testing.assert_array_equal(train[8][..., 1], green)
    assert read_cifar(tmp_path, "valid") is None


def test_cifar100_has_its_fine_labels(tmp_path):
    for name in ("train", "test"):
        batch = {
            b"data": np.zeros((4, 3072), np.uint8),
            b"fine_labels": [5, 6, 7, 99],
            b"coarse_labels": [0] * 4,
        }
        (tmp_path / name).write_bytes(python2(batch))
    names = [f"{n}".encode() for n in range(100)]
    (tmp_path / "meta").write_bytes(python2({b"fine_label_names": names}))
    images = read_cifar(tmp_path, "test")
    assert images.labels.tolist() == [5, 6, 7, 99]
    assert len(images.classes) == 100


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), None])
def test_a_cifar_file_that_is_none_is_refused_and_nothing_runs(tmp_path, content):
    write_cifar10(tmp_path)
    trace = tmp_path / "trace"
    evil = pickle.dumps({b"data": Evil(trace), b"labels": []})
    (tmp_path / "data_batch_2").write_bytes(evil if content is None else content)
    with pytest.raises(UserError, match="data_batch_2: not a file of CIFAR's python version") as error:
        read_cifar(tmp_path, "train")
    assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [str, str.encode], ids=["str", "bytes"])
def test_cifar_as_python_3_writes_it(tmp_path, protocol, kind):
    write_cifar10(tmp_path)
    pixels = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
    batch = {kind("data"): pixels, kind("labels"): [3, 1, 4, 1]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol))
    meta = {kind("label_names"): [kind(f"class {n}") for n in range(10)]}
    (tmp_path / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    images = read_cifar(tmp_path, "test")
    np.testing.assert_array_equal(images.pixels.transpose(0, 3, 1, 2).reshape(4, -1), pixels)
    assert images.labels.tolist() == [3, 1, 4, 1]
    assert images.classes[9] == "class 9"


@pytest.mark.parametrize(
    "batch",
    [
        {b"labels": [1]},
        {b"data": None, b"labels": [1]},
        {b"data": np.zeros((1, 3072)), b"labels": [1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]},
    ],
)
def test_cifar_files_that_hold_something_else_are_refused(tmp_path, batch):
    write_cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 4))
    with pytest.raises(UserError, match=r"test_batch: (no 32 × 32 images|labels that are none)"):
        read_cifar(tmp_path, "test")


@pytest.mark.parametrize("meta", [{}, {b"label_names": None}, {b"label_names": [1]}])
def test_cifar_without_names_is_refused(tmp_path, meta):
    write_cifar10(tmp_path)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps(meta, 4))
    with pytest.raises(UserError, match=r"batches.meta: no list of label_names"):
        read_cifar(tmp_path, "test")


def test_a_folder_that_is_not_cifars_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither batches.meta nor meta"):
        read_split("cifar", tmp_path, "train")


def test_a_missing_part_of_cifar_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(UserError, match="data_batch_4"):
        read_cifar(tmp_path, "train")


# --- IDX ---------------------------------------------------------------------------------------


def write_idx(file, array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(
        gzip.compress(head + array.tobytes()) if file.suffix == ".gz" else head + array.tobytes()
    )


def write_mnist(folder, suffix):
    pixels, labels = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return pixels, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_as_they_were_written(tmp_path, suffix):
    pixels, labels = write_mnist(tmp_path, suffix)
    assert recognise(tmp_path) == "idx"
    images = read_idx(tmp_path, "train")
    np.testing.assert_array_equal(images.pixels[..., 0], pixels)
    assert images.labels.tolist() == labels.tolist()
    assert len(images.classes) == 10
    assert read_idx(tmp_path, "valid") is None


@pytest.mark.parametrize("damage", ["short", "labels", "type"])
def test_damaged_idx_files_are_refused(tmp_path, damage):
    write_mnist(tmp_path, "")
    file = tmp_path / "train-images-idx3-ubyte"
    if damage == "labels":
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    else:
        content = file.read_bytes()
        file.write_bytes(content[:-5] if damage == "short" else b"\0\0\x0d" + content[3:])
    with pytest.raises(UserError) as error:
        read_idx(tmp_path, "train")
    assert "\n" not in str(error.value)


# --- folders -----------------------------------------------------------------------------------


def write_folders(folder, parts=("train", "test"), size=(9, 7), formats=("png", "jpg", "bmp")):
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for number in range(4):
                image = Image.new("RGB", size, (label * 200, 50, number * 10))
                image.save(folder / part / name / f"{number}.{formats[number % len(formats)]}")


def test_folders_are_read_whatever_the_format(tmp_path):
    write_folders(tmp_path)
    assert recognise(tmp_path) == "folders"
    images = read_folders(tmp_path, "train", None)
    assert isinstance(images, ArrayImages)
    assert images.pixels.shape == (8, 7, 7, 3)  # the middle square
    assert images.labels.tolist() == [0] * 4 + [1] * 4
    assert images.classes == ["cat", "dog"]
    np.testing.assert_array_equal(images[4][3, 3], (200, 50, 0))
    assert read_folders(tmp_path, "valid", None) is None
    assert read_folders(tmp_path, "test", 5).pixels.shape == (8, 5, 5, 3)


def test_many_images_are_read_when_they_are_needed(tmp_path, monkeypatch):
    write_folders(tmp_path)
    whole = read_folders(tmp_path, "train", None)
    monkeypatch.setattr(folders, "IN_MEMORY", 10)
    images = read_folders(tmp_path, "train", None)
    assert isinstance(images, FileImages)
    np.testing.assert_array_equal(np.stack([images[n] for n in range(8)]), whole.pixels)


def test_grey_and_transparent_images_become_colours(tmp_path):
    write_folders(tmp_path, formats=("png",))
    cats = tmp_path / "train" / "cat"
    Image.new("L", (9, 7), 77).save(cats / "0.png")
    Image.new("RGBA", (9, 7), (1, 2, 3, 4)).save(cats / "1.png")
    Image.fromarray(np.full((7, 9), 77 * 256 + 5, np.uint16)).save(cats / "2.png")
    images = read_folders(tmp_path, "train", 7)
    assert [images[n][3, 3].tolist() for n in range(3)] == [[77, 77, 77], [1, 2, 3], [77, 77, 77]]


def test_images_of_16_bits_keep_their_greys(tmp_path):
    write_folders(tmp_path)
    ramp = np.arange(49, dtype=np.uint16).reshape(7, 7) * 1300
    Image.fromarray(ramp).save(tmp_path / "train" / "cat" / "0.png")
    np.testing.assert_array_equal(read_folders(tmp_path, "train", 7)[0][..., 0], ramp >> 8)


def test_a_turned_photograph_is_turned_back(tmp_path):
    write_folders(tmp_path, size=(7, 7), formats=("png",))
    pixels = np.zeros((7, 7, 3), np.uint8)
    pixels[0] = 255  # the upper row
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # by half a turn
    image.save(tmp_path / "train" / "cat" / "0.png", exif=exif)
    np.testing.assert_array_equal(read_folders(tmp_path, "train", 7)[0], pixels[::-1])


def damaged_png():
    stream = io.BytesIO()
    Image.new("RGB", (9, 7)).save(stream, "png")
    content = bytearray(stream.getvalue())
    content[40] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize("name", ["0.png", "9.png"], ids=["first", "last"])
@pytest.mark.parametrize("content", ["text", "damaged", "32 bits", "bomb"])
def test_a_file_that_is_no_image_is_named(tmp_path, monkeypatch, content, name):
    write_folders(tmp_path)
    file = tmp_path / "train" / "cat" / name
    if content == "bomb":
        Image.new("RGB", (90, 90)).save(file)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    elif content == "32 bits":
        Image.new("F", (9, 7)).save(file, "tiff")
    else:
        file.write_bytes(damaged_png() if content == "damaged" else b"text")
    with pytest.raises(UserError, match=rf"{name}: not an image that can be read") as error:
        read_folders(tmp_path, "train", None)
    assert "\n" not in str(error.value)


def test_a_class_that_training_lacks_is_refused(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "test" / "eel").mkdir()
    with pytest.raises(UserError, match="training has no class eel"):
        read_folders(tmp_path, "test", None, ["cat", "dog"])
    assert read_folders(tmp_path, "train", None, ["cat", "dog", "fox"]).labels.tolist() == [0] * 4 + [1] * 4


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images: valid are"):
        recognise(tmp_path)


# --- digits ------------------------------------------------------------------------------------


def test_digits_need_no_download():
    train, test = read_digits("train"), read_digits("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.pixels.dtype == np.uint8
    assert train.pixels.max() == 255
    assert sorted(set(test.labels.tolist())) == list(range(10))


# --- chance ------------------------------------------------------------------------------------

IMAGES = ArrayImages(RNG.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8), np.arange(12) % 3, ["a", "b", "c"])


def dataset(**options):
    return ImageDataset(IMAGES, np.arange(12), **options)


@given(st.integers(0, 4), st.booleans(), st.integers(0, 10**6))
def test_a_crop_is_a_window_of_the_padded_image(padding, flip, seed):
    image = RNG.integers(1, 256, (5, 6, 2), dtype=np.uint8)
    found = augmented(image, padding, flip, np.random.default_rng(seed))
    assert found.shape == image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    windows = [padded[y : y + 5, x : x + 6] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    windows += [window[:, ::-1] for window in windows] if flip else []
    assert any(np.array_equal(found, window) for window in windows)


def test_every_window_and_both_sides_come():
    image = np.arange(1, 10, dtype=np.uint8).reshape(3, 3, 1)
    found = {augmented(image, 1, True, np.random.default_rng(n)).tobytes() for n in range(400)}
    assert len(found) == 18  # 9 windows, none its own mirror


def test_chance_follows_from_seed_epoch_and_image_alone():
    first, again, other = (dataset(padding=2, flip=True, seed=seed) for seed in (1, 1, 2))

    def images(of, order):
        found = {index: image for index, image, _ in (of[index] for index in order)}
        return [found[index].tobytes() for index in range(12)]

    assert images(first, range(12)) == images(again, reversed(range(12)))
    assert images(first, range(12)) != images(other, range(12))
    again.set_epoch(2)
    assert images(first, range(12)) != images(again, range(12))


def test_evaluation_knows_no_chance():
    plain = dataset()
    for index in range(12):
        np.testing.assert_array_equal(plain[index][1], IMAGES[index])
    assert plain.ordered_indices().tolist() == list(range(12))


def test_batches_are_drawn_anew_in_each_epoch():
    shuffled = dataset(shuffle=True)
    first = shuffled.ordered_indices().tolist()
    shuffled.set_epoch(2)
    assert sorted(first) == list(range(12)) != first
    assert shuffled.ordered_indices().tolist() != first


def test_a_batch_is_bytes_with_channels_first():
    batch = dataset().collater([dataset()[index] for index in range(12)])
    pixels = batch["net_input"]["image"].numpy()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, IMAGES.pixels.transpose(0, 3, 1, 2))
    assert batch["target"].tolist() == IMAGES.labels.tolist()
    assert batch["nsentences"] == 12


@given(st.integers(1, 300), st.integers(1, 70))
def test_batches_differ_by_one_image_and_lose_none(count, size):
    batches = dataset().batch_by_size(np.arange(count), max_sentences=size, required_batch_size_multiple=8)
    assert np.concatenate(batches).tolist() == list(range(count))
    lengths = {len(batch) for batch in batches}
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(batches) == math.ceil(count / size)


def test_tokens_are_images():
    assert [len(batch) for batch in dataset().batch_by_size(np.arange(12), max_tokens=5)] == [4, 4, 4]
    assert len(dataset().batch_by_size(np.arange(12))) == 1


# --- moments -----------------------------------------------------------------------------------


def test_moments_are_those_of_the_pixels():
    pixels = IMAGES.pixels[[1, 4, 7]] / 255
    mean, deviation = moments(IMAGES, np.array([1, 4, 7]))
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)))


def test_of_many_images_some_are_taken_and_each_is_read_once():
    class Counted:
        reads: ClassVar = []

        def __getitem__(self, number):
            self.reads.append(number)
            return np.full((2, 2, 1), number, np.uint8)

    mean, _ = moments(Counted(), np.arange(101), at_most=11)
    assert Counted.reads == list(range(0, 101, 10))
    assert mean == [pytest.approx(50 / 255)]


def test_one_colour_has_a_deviation():
    one = ArrayImages(np.full((3, 2, 2, 1), 9, np.uint8), np.zeros(3), ["a"])
    assert moments(one, np.arange(3)) == ([pytest.approx(9 / 255)], [pytest.approx(1 / 255)])


# --- the task ----------------------------------------------------------------------------------


def task(folder, training=True, **options):
    parser = argparse.ArgumentParser()
    ImageClassificationTask.add_args(parser)
    flags = vars(parser.parse_args([str(folder), "--held-out", "0.25", "--crop-padding", "2"]))
    return ImageClassificationTask(Namespace(**{**flags, "seed": 1, **options}), training)


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
    images = of_images.dataset("train").images
    assert of_images.mean == moments(images, np.array(numbers["train"]))[0]
    assert of_images.mean != moments(images, np.arange(8))[0]
    with pytest.raises(UserError, match="no split test"):
        of_images.load_dataset("test")


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
    assert state.mean
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
    assert of_images.mean == state["images"]["mean"]


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
    with pytest.raises(UserError, match="what is trained on is tried by fairseq-validate"):
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 0.99}, "--held-out 0.99 of 8 images leaves none to train on"),
        ({"image_size": 0}, "--image-size 0: valid is a whole number of at least 1"),
        ({"data_seed": -1}, "--data-seed -1: valid is 0 or more"),
    ],
)
def test_flags_that_leave_no_images_are_refused(tmp_path, options, message):
    write_folders(tmp_path, parts=("train",))
    with pytest.raises(UserError, match=message):
        task(tmp_path, **options).load_dataset("train")


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
