"""Images: CIFAR's pickles, IDX files, folders, digits; what chance does to them, and what it does not."""

import gzip
import io
import pickle
import struct
from argparse import Namespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skipln_fairseq.errors import UserError
from skipln_fairseq.images.data import ImageDataset, Normalisation, folders, recognise
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
    write_folders(tmp_path)
    Image.new("L", (9, 7), 77).save(tmp_path / "train" / "cat" / "0.png")
    Image.new("RGBA", (9, 7), (1, 2, 3, 4)).save(tmp_path / "train" / "cat" / "1.png")
    images = read_folders(tmp_path, "train", None)
    assert images[0][0, 0].tolist() == [77, 77, 77]
    assert images[1].shape == (7, 7, 3)


def test_a_file_that_is_no_image_is_named(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "train" / "cat" / "9.png").write_text("text")
    with pytest.raises(UserError, match=r"9\.png: not an image that can be read"):
        read_folders(tmp_path, "train", None)


def test_a_class_that_training_lacks_is_refused(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "test" / "eel").mkdir()
    with pytest.raises(UserError, match="train has no class eel"):
        read_folders(tmp_path, "test", None)


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
    return ImageDataset(IMAGES, np.arange(12), Normalisation.of(IMAGES, np.arange(12)), **options)


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


def test_training_pixels_have_mean_zero_and_deviation_one():
    batch = dataset().collater([dataset()[index] for index in range(12)])
    pixels = batch["net_input"]["image"].double()
    assert pixels.shape == (12, 3, 6, 6)
    assert pixels.mean((0, 2, 3)).abs().max() < 1e-5
    assert (pixels.std((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-3
    assert batch["target"].tolist() == IMAGES.labels.tolist()
    assert batch["nsentences"] == 12


def task(folder, **options):
    flags = {
        "images": str(folder),
        "held_out": 0.25,
        "data_seed": 1,
        "crop_padding": 0,
        "no_flip": True,
        "seed": 1,
    }
    return ImageClassificationTask(Namespace(**{**flags, **options}))


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
    expected = Normalisation.of(of_images.training, np.array(numbers["train"]))
    np.testing.assert_array_equal(of_images.normalisation.mean, expected.mean)
    assert not np.array_equal(expected.mean, Normalisation.of(of_images.training, np.arange(8)).mean)
    with pytest.raises(UserError, match="no split test"):
        of_images.load_dataset("test")
