"""An index, words or a dictionary that do not fit each other: one line names the file, before anything is built."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset

import skipln_fairseq  # noqa: F401  (checks what fairseq reads)
from skipln_fairseq.common.errors import UserError
from tests.compat.test_bad_data import one_line
from tests.support.commands import TRAIN, preprocess, run

SIDE = "train.en-de.en"
HEADER = 26  # bytes before the lengths, in an index of --dataset-impl mmap
TORCHNET = 48  # and in one of lazy and cached


def overwrite(ending, place, form, *values):
    """Write these numbers into a file, at this byte."""

    def spoil(folder):
        with (folder / f"{SIDE}.{ending}").open("r+b") as file:
            file.seek(place)
            file.write(struct.pack(form, *values))

    return spoil


def big_endian(folder):
    """As a program would write the index that takes its machine's order for the world's."""
    index = folder / f"{SIDE}.idx"
    content = index.read_bytes()
    lengths = np.frombuffer(content, "<i4", 180, HEADER)
    places = np.frombuffer(content, "<i8", 180, HEADER + lengths.nbytes)
    index.write_bytes(content[:HEADER] + lengths.astype(">i4").tobytes() + places.astype(">i8").tobytes())


def swap_lengths(folder):
    """Two lengths change places: all sums stay right, and two sentences end at wrong words."""
    index = folder / f"{SIDE}.idx"
    content = index.read_bytes()
    lengths = np.frombuffer(content, "<i4", 180, HEADER).copy()
    other = int(np.flatnonzero(lengths != lengths[0])[0])
    lengths[[0, other]] = lengths[[other, 0]]
    index.write_bytes(content[:HEADER] + lengths.tobytes() + content[HEADER + lengths.nbytes :])


def no_words(folder):
    index = folder / f"{SIDE}.idx"
    index.write_bytes(index.read_bytes()[:HEADER] + bytes(180 * 12))
    (folder / f"{SIDE}.bin").write_bytes(b"")


def words_of_another_dictionary(folder):
    lines = (folder / "dict.en.txt").read_text().splitlines(keepends=True)
    (folder / "dict.en.txt").write_text("".join(lines[:5]))


LENGTHS, PLACES = HEADER, HEADER + 180 * 4

SPOILT = {
    "train.en-de.en.idx is no index": overwrite("idx", 0, "B", 0),
    "train.en-de.en.idx is of version 99": overwrite("idx", 9, "<Q", 99),
    "train.en-de.en.idx is of version 72057594037927936": overwrite("idx", 9, ">Q", 1),
    "train.en-de.en.idx has words of the unknown type 77": overwrite("idx", 17, "B", 77),
    "train.en-de.en.idx has words of the unknown type 7,": overwrite("idx", 17, "B", 7),
    r"train.en-de.en.idx has \d+ bytes instead of": overwrite("idx", 18, "<Q", 2**62),
    "train.en-de.en.idx: sentence 3 has -5 words": overwrite("idx", LENGTHS + 8, "<i", -5),
    "train.en-de.en.idx: sentence 180 has -5 words": overwrite("idx", PLACES - 4, "<i", -5),
    "train.en-de.en.idx: sentence 2 begins at": overwrite("idx", LENGTHS, "<i", 2**30),
    "train.en-de.en.idx: sentence 4 begins at 1099511627776": overwrite("idx", PLACES + 24, "<q", 2**40),
    "train.en-de.en.idx: sentence 5 begins at -2": overwrite("idx", PLACES + 32, "<q", -2),
    r"train.en-de.en.bin has \d+ bytes instead of": overwrite("idx", PLACES - 4, "<i", 2**30),
    "train.en-de.en.idx: sentence 2 begins at 1585267068834414592": big_endian,
    "train.en-de.en.idx: sentence 2 begins": swap_lengths,
    "train.en-de.en.bin holds no words": no_words,
    "train.en-de.en.bin holds the word 65000, but the dictionary has": overwrite("bin", 2 * 40, "<H", 65000),
    r"train.en-de.en.bin holds the word \d+, but the dictionary has 9 words": words_of_another_dictionary,
}


def load(folder, impl=None):
    """As fairseq's tasks do."""
    dictionary = Dictionary.load(str(folder / "dict.en.txt"))
    return data_utils.load_indexed_dataset(str(folder / SIDE), dictionary, impl)


@pytest.mark.parametrize("message", SPOILT)
def test_what_does_not_fit_is_named(tmp_path, data, message):
    folder = shutil.copytree(data, tmp_path / "data")
    SPOILT[message](folder)
    with pytest.raises(UserError, match=message):
        load(folder)


@pytest.fixture(scope="module")
def torchnet(tmp_path_factory, texts):
    """The texts in fairseq's older format."""
    folder = tmp_path_factory.mktemp("torchnet")
    preprocess(texts, folder, "--dataset-impl", "lazy")
    return folder


NUMBERS = 180 + 1  # of each of the two lists of places, before the lengths
SPOILT_TORCHNET = {
    "train.en-de.en.idx is no index": overwrite("idx", 0, "B", 0),
    "train.en-de.en.idx is of version 99": overwrite("idx", 8, "<Q", 99),
    "train.en-de.en.idx has words of the unknown type 77": overwrite("idx", 16, "<Q", 77),
    "train.en-de.en.idx has words of 2 bytes": overwrite("idx", 24, "<Q", 2),
    r"train.en-de.en.idx has \d+ bytes instead of": overwrite("idx", 32, "<Q", 2**62),
    "train.en-de.en.idx: sentence 3 has -5 words": overwrite(
        "idx", TORCHNET + 8 * (2 * NUMBERS + 2), "<q", -5
    ),
    "train.en-de.en.idx: sentence 4 begins at 1099511627776": overwrite(
        "idx", TORCHNET + 8 * (NUMBERS + 3), "<q", 2**40
    ),
    "train.en-de.en.idx is not of text": overwrite("idx", TORCHNET + 8, "<q", 2),
    "train.en-de.en.bin has 400 bytes instead of": lambda folder: (folder / f"{SIDE}.bin").write_bytes(
        (folder / f"{SIDE}.bin").read_bytes()[:400]
    ),
    "train.en-de.en.bin holds the word 64999, but the dictionary has": overwrite("bin", 4 * 40, "<i", 65000),
    "train.en-de.en.bin holds the word -1, but the dictionary has": overwrite("bin", 4 * 40, "<i", 0),
}


@pytest.mark.parametrize("impl", ["lazy", "cached"])
@pytest.mark.parametrize("message", SPOILT_TORCHNET)
def test_what_does_not_fit_is_named_in_the_older_format_too(tmp_path, torchnet, message, impl):
    folder = shutil.copytree(torchnet, tmp_path / "data")
    assert len(load(folder, impl)) == 180
    SPOILT_TORCHNET[message](folder)
    with pytest.raises(UserError, match=message):
        load(folder, impl)


def test_data_read_as_another_format_are_refused(tmp_path, data):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / f"{SIDE}.vocab").touch()
    with pytest.raises(UserError, match=r"train.en-de.en.idx is no index of --dataset-impl lazy"):
        load(folder, "lazy")
    with pytest.raises(UserError, match="cannot be read with --dataset-impl huffman"):
        load(folder, "huffman")


def test_whole_data_are_read_as_before(data, torchnet, texts):
    sentences = [item.tolist() for item in load(data)]
    assert sentences == [load(torchnet, "lazy")[number].tolist() for number in range(180)]
    dictionary = Dictionary.load(str(data / "dict.en.txt"))
    first = (texts / "train.en").read_text().splitlines()[0]
    assert dictionary.string(torch.tensor(sentences[0])) == first


@pytest.mark.parametrize(
    "spoil",
    [overwrite("idx", LENGTHS + 8, "<i", -5), overwrite("bin", 80, "<H", 65000)],
    ids=["a length", "a word"],
)
def test_training_ends_in_one_line(tmp_path, data, spoil):
    folder = shutil.copytree(data, tmp_path / "data")
    spoil(folder)
    assert SIDE in one_line(
        run("fairseq-train", folder, *TRAIN, "--save-dir", tmp_path / "r", succeeds=False)
    )
    assert not list(tmp_path.glob("r/*.pt"))


def test_the_data_are_read_once(tmp_path, data, monkeypatch):
    """The check reads all words, so that fairseq need not do it once more to have them in memory."""
    opened = []

    def spy(name, mode):
        opened.append(name)
        return open(name, mode)

    monkeypatch.setattr(indexed_dataset, "open", spy, raising=False)
    load(data)
    assert {Path(name).suffix for name in opened} == {".idx"}


# Dictionaries

SPOILT_DICTIONARIES = {
    "dict.en.txt, line 4: 'the' stands .* already": "cat 1\ndog 2\nthe 3\nthe 4\n",
    "dict.en.txt, line 1: '<s>' stands .* already": "<s> 1\n",
    "dict.en.txt, line 2: .* and its count are expected, not 'dog'": "cat 1\ndog\n",
    "dict.en.txt, line 2: .* and its count are expected, not 'dog many'": "cat 1\ndog many\n",
    "dict.en.txt, line 2: .* and its count are expected, not ''": "cat 1\n\ndog 2\n",
    r"dict.en.txt, line 1: .* expected, not 'xxx.{,200}'$": "x" * 10**6 + "\n",
    "dict.en.txt, line 2: not valid UTF-8": b"cat 1\nd\xffog 2\n",
}


@pytest.mark.parametrize("message", SPOILT_DICTIONARIES)
def test_a_damaged_dictionary_is_named_with_its_line(tmp_path, message):
    content = SPOILT_DICTIONARIES[message]
    (tmp_path / "dict.en.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        Dictionary.load(str(tmp_path / "dict.en.txt"))


def test_words_that_overwrite_are_still_allowed(tmp_path):
    (tmp_path / "dict.en.txt").write_text("cat 1\ncat 2 #fairseq:overwrite\n")
    assert len(Dictionary.load(str(tmp_path / "dict.en.txt"))) == 6


@pytest.mark.parametrize("arch", ["transformer_rskip_tiny", "transformer_tiny"])
def test_a_dictionary_of_another_size_than_the_models_is_one_line(tmp_path, data, arch):
    """Whichever command meets it, and with fairseq's own architectures too."""
    folder = shutil.copytree(data, tmp_path / "data")
    train = ("fairseq-train", folder, *TRAIN, "--arch", arch, "--save-dir", tmp_path / "run")
    run(*train)
    for lang in ("en", "de"):
        with (folder / f"dict.{lang}.txt").open("a") as file:
            file.write("".join(f"more{number} 1\n" for number in range(8)))
    path = tmp_path / "run" / "checkpoint_last.pt"
    flags = (folder, "--path", path, "--cpu")
    for command in (("fairseq-generate", *flags), ("fairseq-interactive", *flags)):
        assert "use the dictionary that it was trained with" in one_line(run(*command, succeeds=False))
    assert "embed_tokens.weight is" in one_line(run(*train, "--max-epoch=2", succeeds=False))
