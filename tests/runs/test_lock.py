"""One process at a time in a folder."""

import os

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.runs import locked


def enter(folder):
    with locked(folder, "demo"):
        pass


@pytest.fixture
def heir():
    """Copies of descriptors, as a process has them that was begun in the meantime."""
    copies = []
    yield lambda lock: copies.append(os.dup(lock))
    for copy in copies:
        os.close(copy)


def test_a_second_one_is_kept_out_until_the_first_has_ended(tmp_path):
    with locked(tmp_path, "demo"), pytest.raises(UserError, match="another demo"):
        enter(tmp_path)
    enter(tmp_path)


def test_those_who_share_keep_out_who_does_not(tmp_path):
    shared = [locked(tmp_path, "demo", shared=True) for _ in range(2)]
    with shared[0], shared[1], pytest.raises(UserError, match="another demo"):
        enter(tmp_path)


def test_after_a_normal_end_the_folder_is_free_whoever_has_a_copy(tmp_path, heir):
    """Another thread that begins a process gives it a copy of all descriptors for a moment."""
    with locked(tmp_path, "demo") as lock:
        heir(lock)
    enter(tmp_path)


def test_after_an_interruption_the_heirs_keep_the_folder(tmp_path, heir):
    def interrupted():
        with locked(tmp_path, "demo") as lock:
            heir(lock)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(UserError, match="the end of an interrupted one"):
        enter(tmp_path)


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--work-dir"):
        enter(tmp_path / "file" / "below")


def test_a_folder_that_fairseq_takes_for_two_is_refused_before_it_is_made(tmp_path):
    with pytest.raises(UserError, match=r"--work-dir .*a:b: fairseq would read several paths"):
        enter(tmp_path / "a:b")
    assert not list(tmp_path.iterdir())
