"""Where images come from: CIFAR's pickles, IDX files, folders, digits."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.data import folders, read_split, recognise
from skipln_fairseq.images.data.cifar import read_cifar
from skipln_fairseq.images.data.digits import read_digits
from skipln_fairseq.images.data.folders import FileImages, read_folders
from skipln_fairseq.images.data.idx import read_idx
from skipln_fairseq.images.data.images import ArrayImages
from tests.support.commands import REPOSITORY
from tests.support.image_files import RNG, python2, write_cifar10, write_folders, write_idx, write_mnist

# --- CIFAR -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04\x8c\x03a\nb\x8c\x03c\nd\x93.", "'a\\nb.c\\nd' is neither an array nor a string"),
        (b"cnumpy\nndarray\n(tR.", "an array that is made as numpy's own pickles make none"),
    ],
    ids=["a name of several lines", "an array by hand"],
)
def test_what_an_unpickler_refuses_is_one_line(tmp_path, content, message):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(UserError, match="not a file of CIFAR's python version") as error:
        read_cifar(tmp_path, "train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


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


class Addresses:
    """An array of objects, of which numpy is told that they are bytes: addresses of the file's choice."""

    def __reduce__(self):
        kind = np.dtype("O8")
        version, order, *rest, _ = kind.__reduce__()[2]
        state = (version, order, *rest, 0)
        return np._core.numeric._frombuffer, (b"ABCDEF\0\0", Forged(kind, state), (1,), "C")


class Forged:
    def __init__(self, kind, state):
        self.kind, self.state = kind, state

    def __reduce__(self):
        return np.dtype, ("O8", False, True), self.state


@pytest.mark.parametrize("field", [b"data", b"label_names"])
def test_arrays_of_addresses_are_refused(tmp_path, field):
    """In a process of its own: what reads such an array ends with a segmentation fault."""
    write_cifar10(tmp_path)
    content = pickle.dumps({b"data": Addresses(), b"labels": [1], b"label_names": [b"a"], field: Addresses()})
    for name in ("test_batch", "batches.meta"):
        (tmp_path / name).write_bytes(content)
    code = "import sys; from pathlib import Path; from skipln_fairseq.images.data.cifar import _load; "
    code += "repr(_load(Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "test_batch"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "an array of 'O8' where bytes belong" in done.stderr


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
    with pytest.raises(
        UserError, match=r"test_batch: (no 32 × 32 images|labels that are none|.* where bytes belong)"
    ):
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


def test_folders_of_classes_without_parts_are_the_training_part(tmp_path):
    write_folders(tmp_path, parts=("",))
    assert recognise(tmp_path) == "folders"
    images = read_folders(tmp_path, "train", None)
    assert (len(images), images.classes) == (8, ["cat", "dog"])
    assert read_folders(tmp_path, "test", None) is None
    (tmp_path / "test" / "cat").mkdir(parents=True)  # now there are parts, and that of training is missing
    assert read_folders(tmp_path, "train", None) is None


def test_classes_may_have_the_names_of_parts(tmp_path):
    for name in ("train", "valid", "invalid"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 7)).save(tmp_path / name / "1.png")
    assert recognise(tmp_path) == "folders"
    assert read_folders(tmp_path, "train", None).classes == ["invalid", "train", "valid"]
    assert read_folders(tmp_path, "valid", None) is None


@pytest.mark.parametrize("suffix", ["tga", "dds", "PNG"])
def test_classes_are_recognised_by_what_pillow_reads(tmp_path, suffix):
    """Not by the types that a system lists: few list these."""
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "cat" / f"1.{suffix}")
    assert recognise(tmp_path) == "folders"
    assert len(read_folders(tmp_path, "train", None)) == 1


def test_images_without_a_suffix_are_read_if_the_format_is_said(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "cat" / "1", "png")
    with pytest.raises(UserError, match="no images: valid are"):
        recognise(tmp_path)
    assert len(read_split("folders", tmp_path, "train")) == 1


@pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")
def test_a_damaged_avif_is_one_line(tmp_path):
    file = tmp_path / "train" / "cat" / "a.avif"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), (9, 8, 7)).save(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-10] + bytes(byte ^ 255 for byte in whole[-10:]))
    with pytest.raises(UserError, match=r"a\.avif: not an image that can be read"):
        read_folders(tmp_path, "train", None)


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
