"""Where images come from: CIFAR's pickles, IDX files, digits."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.data import read_split, recognise
from skipln_fairseq.images.data.cifar import read_cifar
from skipln_fairseq.images.data.digits import read_digits
from skipln_fairseq.images.data.idx import read_idx
from tests.support.commands import REPOSITORY
from tests.support.image_files import RNG, python2, write_cifar10, write_idx, write_mnist

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


# --- digits ------------------------------------------------------------------------------------


def test_digits_need_no_download():
    train, test = read_digits("train"), read_digits("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.pixels.dtype == np.uint8
    assert train.pixels.max() == 255
    assert sorted(set(test.labels.tolist())) == list(range(10))
