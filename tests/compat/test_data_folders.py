"""A data folder is complete once it has its dictionaries."""

import os
import signal

import pytest
from fairseq.binarizer import FileBinarizer
from fairseq.data import Dictionary

import skipln_fairseq  # noqa: F401  (applies the workarounds)
from tests.support.commands import USER_DIR, preprocess, run
from tests.support.kills import killed_in

# Code that runs fairseq-preprocess and kills it when it moves its n-th file.
MOVE_AND_DIE = """
import os, signal, sys
from pathlib import Path

move, moved = Path.replace, []

def replace(self, target):
    if Path(target).parent == Path({folder!r}) and not Path(target).name.startswith("."):
        moved.append(target)
        if len(moved) == {n}:
            os.kill(os.getpid(), signal.SIGKILL)
    return move(self, target)

Path.replace = replace
"""


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "preprocess.log"}


@pytest.mark.parametrize("workers", [1, 2])
def test_data_are_the_same_and_nothing_else_is_left(tmp_path, data, texts, workers):
    preprocess(texts, tmp_path, "--workers", workers)
    assert contents(tmp_path) == contents(data)


def flags(texts, folder):
    return [
        *(
            "-s",
            "en",
            "-t",
            "de",
            "--joined-dictionary",
            "--user-dir",
            str(USER_DIR),
            "--destdir",
            str(folder),
        ),
        *(f"--{split}pref={texts / split}" for split in ("train", "valid", "test")),
    ]


@pytest.mark.parametrize(
    "start",
    [
        "from fairseq_cli.preprocess import cli_main; cli_main()",
        "import runpy; runpy.run_module('fairseq_cli.preprocess', run_name='__main__', alter_sys=True)",
    ],
)
@pytest.mark.parametrize("n", [1, 12, 13])
def test_a_killed_command_is_started_again(tmp_path, data, texts, start, n):
    """Of 14 files, of which two are dictionaries."""
    out = tmp_path / "data"
    code = MOVE_AND_DIE.format(folder=str(out), n=n)
    code += f"sys.argv = {['fairseq-preprocess', *flags(texts, out)]!r}\n{start}"
    assert run("-c", code, succeeds=False).status == -signal.SIGKILL
    assert len([*out.glob("[tv]*")]) == n - 1
    assert not [*out.glob("dict*")]
    preprocess(texts, out)
    assert contents(out) == contents(data)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_while_one_file_is_written_leaves_none_of_it(tmp_path, monkeypatch):
    words = Dictionary()
    words.add_symbol("the")
    text = tmp_path / "text"
    text.write_text("the\n" * 9)

    class Killer:
        binarize_line = die

    out = tmp_path / "out"
    killed_in(lambda: FileBinarizer.multiprocess_dataset(str(text), "mmap", Killer(), str(out / "train")))
    assert not any(file.suffix in (".bin", ".idx") for file in out.iterdir())

    def save(self, file, pairs):
        with open(file, "w") as half:
            half.write("th")
        die()

    monkeypatch.setattr(Dictionary, "_save", save)
    killed_in(lambda: words.save(str(out / "dict.txt")))
    assert not (out / "dict.txt").exists()
