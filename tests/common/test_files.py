"""Whole files or none."""

import errno
import os
import signal

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.files import scratch, whole, write_all, write_text
from tests.support.kills import killed_in


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def full(monkeypatch):
    """A disk without space, which some systems tell only at fsync."""

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_kill_leaves_the_old_file_and_the_next_writer_clears_up(tmp_path):
    file = tmp_path / "report.md"
    write_text(file, "old")

    def write():
        with whole(file) as beside:
            beside.write_text("ne")
            die()

    killed_in(write)
    assert file.read_text() == "old"
    assert len(names(tmp_path)) == 2
    write_text(file, "new")
    assert file.read_text() == "new"
    assert names(tmp_path) == ["report.md"]


def test_what_another_process_is_writing_stays(tmp_path):
    with whole(tmp_path / "report.md") as beside:
        beside.write_text("mine")
        (other,) = names(tmp_path)
        other = beside.with_name(other.replace(f"-{os.getpid()}.", f"-{os.getppid()}."))
        other.write_text("another's")
    write_text(tmp_path / "report.md", "mine again")
    assert names(tmp_path) == sorted([other.name, "report.md"])


def test_on_the_disk_before_it_is_moved_and_the_move_too(tmp_path, monkeypatch):
    done = []
    flush, move = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda opened: (done.append(os.fstat(opened).st_ino), flush(opened)))
    monkeypatch.setattr(type(tmp_path), "replace", lambda one, two: (done.append("moved"), move(one, two)))
    write_all(tmp_path, {name: lambda beside: beside.write_text("new") for name in "ab"})
    a, b, folder = (path.stat().st_ino for path in (tmp_path / "a", tmp_path / "b", tmp_path))
    assert done == [a, b, "moved", "moved", folder]


def test_a_folder_is_on_the_disk_with_all_that_is_in_it(tmp_path, monkeypatch):
    flushed, flush = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda opened: (flushed.add(os.fstat(opened).st_ino), flush(opened)))
    with whole(tmp_path / "model") as folder:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").write_text("x")
    assert (tmp_path / "model" / "deep" / "file").read_text() == "x"
    assert flushed >= {path.stat().st_ino for path in (*tmp_path.rglob("*"), tmp_path)}


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, full):
    (tmp_path / "b").write_text("old")
    with pytest.raises(UserError, match=rf"^{tmp_path}/b: No space left on device$"):
        write_all(tmp_path, {"b": lambda beside: beside.write_text("new")})
    with (
        pytest.raises(UserError, match=rf"^{tmp_path}/b: No space left on device$"),
        whole(tmp_path / "b") as b,
    ):
        b.write_text("new")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "old"


def test_of_several_files_none_is_moved_when_one_fails(tmp_path):
    def fail(beside):
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="b: No space left on device"):
        write_all(tmp_path, {"a": lambda beside: beside.write_text("new"), "b": fail})
    assert names(tmp_path) == []


def test_what_is_no_failure_to_write_keeps_its_kind(tmp_path):
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "a") as beside:
        beside.write_text(str(1 / 0))
    with pytest.raises(RuntimeError, match="bug"), whole(tmp_path / "a"):
        raise RuntimeError("bug")
    assert names(tmp_path) == []


def test_a_folder_for_the_time_being(tmp_path):
    with scratch(tmp_path / "data") as folder:
        (folder / "part").write_text("x")
        write_all(tmp_path, {"part": (folder / "part").replace})
    assert names(tmp_path) == ["part"]


def test_links_are_followed_and_pipes_are_written_to(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_text() == "x"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
