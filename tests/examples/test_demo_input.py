"""What the demo is given: texts, sub-words of them, flags; bad input ends in one line."""

import os
import subprocess
import sys

import pytest

from examples.demo import __main__ as demo
from examples.demo import commands, own_files, stages, subwords
from examples.demo.pairs import Pair
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.runs import read_lines
from tests.support.commands import REPOSITORY


def test_sentences_survive_being_written_and_read(tmp_path):
    strange = ["plain", "a\u2028b", '[brackets] \\ | "quotes"']
    subwords.write_plain({"train": [Pair("1", text, text[::-1]) for text in strange]}, tmp_path, "de")
    assert read_lines(tmp_path / "train.en") == strange
    assert read_lines(tmp_path / "train.de") == [text[::-1] for text in strange]


def test_a_small_corpus_has_fewer_sub_words(tmp_path, monkeypatch):
    """As the generated one, which the demo takes where no other can be had."""
    monkeypatch.setattr(commands, "run", lambda *_: None)
    pairs = [Pair("1", "ab ba", "aa bb")] * 3
    subwords.write_plain({"train": pairs, "valid": pairs, "test": pairs}, tmp_path, "de")
    subwords.prepare(tmp_path, tmp_path, "de", demo.VOCABULARY, print)
    assert 4 < len(read_lines(tmp_path / "subwords.vocab")) < 20
    with pytest.raises(UserError, match="--vocabulary 3: not possible with this corpus"):
        subwords.prepare(tmp_path, tmp_path, "de", 3, print)


@pytest.fixture
def two_files(tmp_path):
    files = tmp_path / "text.en", tmp_path / "text.de"
    for file in files:
        file.write_text("one\ntwo\nthree\n", "utf-8")
    return files


def test_own_files_are_paired_line_by_line(two_files):
    two_files[1].write_bytes("\ufeffeins \r\nzwei\u2028halb\r\ndrei".encode())
    pairs = own_files.read_pairs(*two_files)
    assert [(p.source, p.target) for p in pairs] == [("one", "eins"), ("two", "zwei halb"), ("three", "drei")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo\n", r"text\.en has 3 lines and .*text\.de has 2"),
        (b"one\n \nthree\n", r"text\.de, line 2: empty"),
        (b"one\ntwo\nt\xe4\n", r"text\.de, line 3: not UTF-8"),
        (b"", r"text\.de, line 1: empty"),
        (None, r"cannot read .*text\.de: No such file"),
    ],
)
def test_bad_own_files_are_refused_in_one_line(two_files, content, message):
    if content is None:
        two_files[1].unlink()
    else:
        two_files[1].write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        own_files.read_pairs(*two_files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--source a.txt", "--source and --target go together"),
        ("--source a --target b --corpus vscode", "contradict"),
        ("--updates 3", "--updates 3: valid is a whole number of at least 10"),
        ("--max-words 1", "--max-words 1"),
        ("--vocabulary 1", "--vocabulary 1"),
        ("--threads 0", "--threads 0"),
        ("--seed -1", "--seed -1"),
        ("--target-lang en", "--target-lang en"),
        ("--target-lang ../de", "--target-lang"),
        ("--arch transformer_rskipp", "--arch transformer_rskipp: valid are .*transformer_rskip,"),
        ("--arch lstm", "--arch lstm: valid are"),
    ],
)
def test_bad_flags_are_refused_before_any_work(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        stages.check(demo.parse(arguments.split()))
    assert "\n" not in str(caught.value)


def test_good_flags_pass():
    stages.check(demo.parse([]))
    args = demo.parse(["--arch", "transformer", "--", "--skip-order", "3"])
    stages.check(args)
    assert args.flags == ["--skip-order", "3"]


def test_the_command_ends_in_one_line_without_traceback_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "examples.demo",
            "--source",
            "no-file",
            "--target",
            "no-file",
            "--work-dir",
            "work",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    complaint = [line for line in done.stderr.splitlines() if "Warning" not in line and "warn" not in line]
    assert (
        complaint[-1]
        == "demo: error: cannot read no-file: No such file or directory; give two text files in UTF-8"
    )
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "work").glob("corpus*"))


def test_too_few_own_lines_leave_no_complete_corpus(two_files, tmp_path):
    args = demo.parse(
        ["--source", str(two_files[0]), "--target", str(two_files[1]), "--work-dir", str(tmp_path / "work")]
    )
    with pytest.raises(UserError, match="too few sentence pairs"):
        stages.main(args)
    assert not list((tmp_path / "work").glob("*/complete.json"))
