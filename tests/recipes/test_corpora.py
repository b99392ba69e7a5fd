"""The recipes' corpora: files, lines and words."""

import gzip
import io
from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.recipes import corpora
from skipln_fairseq.recipes.text import Text, fits
from skipln_fairseq.runs import read_lines
from tests.support.recipe_files import archive


def test_a_file_that_an_archive_lacks_is_named(tmp_path):
    archive(tmp_path / "a.tgz", {"x": b"1\n"})
    with pytest.raises(UserError, match=r"a\.tgz holds no y/z"):
        list(corpora.read("a.tgz/y/z", lambda name: tmp_path / name))


@pytest.mark.parametrize("path", ["", "#1-2"])
def test_a_path_that_names_no_file_is_refused(path):
    with pytest.raises(UserError, match="names no file"):
        list(corpora.read(path, Path))


@pytest.mark.parametrize("name", ["broken.tgz", "broken.gz", "cut.gz", "latin1.txt"])
def test_damaged_files_are_refused_in_one_line(tmp_path, name):
    content = gzip.compress(b"line\n" * 1000)[:-20][:40] + b"x" * 30 if name == "cut.gz" else b"Stra\xdfe\n"
    (tmp_path / name).write_bytes(content)
    path = f"{name}/x" if name.endswith("tgz") else name
    with pytest.raises(UserError) as error:
        list(corpora.read(path, lambda name: tmp_path / name))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_only_line_feeds_end_a_sentence():
    stream = io.BytesIO("a\u2028b\x85c\r\nd\re\n".encode())
    assert list(corpora.lines_of(stream, "train.en")) == ["a\u2028b\x85c", "d e"]


def test_a_part_of_a_file_is_taken_by_its_lines(tmp_path):
    (tmp_path / "a").write_text("1\n2\n3\n4\n")
    found = {part: list(corpora.read(part, lambda name: tmp_path / name)) for part in ("a#1-2", "a#3-", "a")}
    assert found == {"a#1-2": ["1", "2"], "a#3-": ["3", "4"], "a": ["1", "2", "3", "4"]}


def test_text_of_two_origins_is_written_alike():
    text = Text("vi", drop="'\"’", nfc=True)
    assert text.tokens('the user \'s "e\u0301" , isn’t') == "the user s é , isn t"


def test_pairs_of_unfit_lengths_are_dropped():
    assert fits("a b", "a b c", 3, 1.5)
    assert not fits("a b", "a b c d", 4, 1.5)
    assert not fits("a b c", "a b c", 2, 1.5)
    assert not fits("", "a", 2, 9)


def test_processes_tokenise_in_order():
    text, sentences = Text("en", moses=True), [f"Number {n}, it is." for n in range(1200)]
    assert list(text.all_tokens(iter(sentences), 2)) == [text.tokens(line) for line in sentences]


def test_tokens_become_plain_text_again():
    text = Text("en", moses=True, split_hyphens=True)
    for sentence in ("It's a well-known \"cat\", isn't it?", "A & B cost $5 (or 4%)."):
        assert text.plain(text.tokens(sentence)) == sentence


def test_lines_end_at_line_feeds(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rtwo\nthree")
    assert read_lines(tmp_path / "a") == ["one", "two\rtwo", "three"]
