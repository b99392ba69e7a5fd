"""A training that was killed goes on from its last save."""

import os
import random
import re
import shutil
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skipln_fairseq.compat.interrupted import go_on_from_the_newest, is_whole, newest, remove_leftovers
from tests.support.commands import TRAIN, USER_DIR, Finished, run, start
from tests.support.kills import COPY_HALF_AND_DIE

SAVING = ("--save-interval-updates", 3, "--max-update", 11, "--disable-validation")


def checkpoint(file, updates, written=None, damaged=False, **more):
    """A checkpoint's least, and the second it was written in."""
    torch.save(
        {"model": {"w": torch.ones(99)}, "optimizer_history": [{"num_updates": updates}], **more}, file
    )
    if damaged:
        os.truncate(file, file.stat().st_size - 30)
    if written is not None:
        os.utime(file, (written, written))
    return file


def lose_a_block(file):
    content = bytearray(file.read_bytes())
    start = content.index(torch.ones(99).numpy().tobytes())
    content[start : start + 64] = bytes(64)
    file.write_bytes(content)


def updates(file):
    return torch.load(file, weights_only=True)["optimizer_history"][-1]["num_updates"]


def test_instead_of_a_damaged_one_the_newest_whole_one(tmp_path, caplog):
    last = checkpoint(tmp_path / "checkpoint_last.pt", 400, damaged=True)
    checkpoint(tmp_path / "checkpoint_2_400.pt", 400, damaged=True)
    lose_a_block(checkpoint(tmp_path / "checkpoint_2_350.pt", 350))
    checkpoint(tmp_path / "checkpoint_2_300.pt", 300, written=1)
    checkpoint(tmp_path / "checkpoint1.pt", 200, written=2)
    checkpoint(tmp_path / "checkpoint_mean.pt", 500)  # an average, say
    go_on_from_the_newest(tmp_path)
    assert updates(last) == 300
    (said,) = caplog.messages
    assert "checkpoint_last.pt was damaged" in said
    assert "going on from checkpoint_2_300.pt" in said


@pytest.mark.parametrize(
    "first", ["checkpoint1.pt", "checkpoint_1_20.pt", "checkpoint_best.pt", "checkpoint.best_loss_2.0.pt"]
)
def test_a_first_save_that_was_cut_off_before_its_copy(tmp_path, caplog, first):
    checkpoint(tmp_path / first, 20)
    go_on_from_the_newest(tmp_path)
    assert updates(tmp_path / "checkpoint_last.pt") == 20
    assert f"checkpoint_last.pt was missing, as a kill leaves it: going on from {first}" in caplog.text


def test_a_later_save_that_was_cut_off_before_its_copy(tmp_path, caplog):
    last = checkpoint(tmp_path / "checkpoint_last.pt", 20, written=10)
    checkpoint(tmp_path / "checkpoint_1_30.pt", 30, written=11)
    go_on_from_the_newest(tmp_path)
    assert updates(last) == 30
    assert "checkpoint_last.pt was older" in caplog.text


def test_who_put_an_older_one_in_its_place_goes_on_from_that(tmp_path, caplog):
    checkpoint(tmp_path / "checkpoint_1_30.pt", 30, written=10)
    last = checkpoint(tmp_path / "checkpoint_last.pt", 20, written=11)
    go_on_from_the_newest(tmp_path)
    assert updates(last) == 20
    assert not caplog.messages


def test_an_older_one_that_was_written_later_is_not_gone_back_to(tmp_path):
    """As when a folder was copied."""
    last = checkpoint(tmp_path / "checkpoint_last.pt", 30, written=10)
    best = checkpoint(tmp_path / "checkpoint_best.pt", 20, written=11)
    assert newest(last, [best]) == ("older", None)


def test_who_took_the_last_one_of_several_away_begins_anew(tmp_path):
    for updates in (20, 30):
        checkpoint(tmp_path / f"checkpoint_1_{updates}.pt", updates)
    go_on_from_the_newest(tmp_path)
    assert not (tmp_path / "checkpoint_last.pt").exists()


@pytest.mark.parametrize(("best", "kept"), [(2.5, 30), (2.0, 20)])
def test_a_best_one_whose_save_was_cut_off_becomes_the_best(tmp_path, best, kept):
    """Or its better would have to come before there is one again."""
    checkpoint(tmp_path / "checkpoint_best.pt", 20, written=10)
    checkpoint(tmp_path / "checkpoint_last.pt", 20, written=10)
    checkpoint(tmp_path / "checkpoint2.pt", 30, written=11, extra_state={"val_loss": 2.5, "best": best})
    go_on_from_the_newest(tmp_path)
    assert updates(tmp_path / "checkpoint_last.pt") == 30
    assert updates(tmp_path / "checkpoint_best.pt") == kept


def test_what_a_run_begins_with_is_not_what_it_left(tmp_path):
    begin = checkpoint(tmp_path / "checkpoint_best.pt", 30)
    go_on_from_the_newest(tmp_path, but=str(begin))
    assert list(tmp_path.iterdir()) == [begin]


def test_without_a_whole_one_all_stays_as_it_is(tmp_path):
    last = checkpoint(tmp_path / "checkpoint_last.pt", 30, damaged=True)
    before = last.read_bytes()
    go_on_from_the_newest(tmp_path)
    assert last.read_bytes() == before


def test_what_is_refused_for_something_else_than_damage_stays(tmp_path):
    last = tmp_path / "checkpoint_last.pt"
    torch.save({"model": re.compile("x"), "optimizer_history": []}, last)
    before = last.read_bytes()
    checkpoint(tmp_path / "checkpoint_1_30.pt", 30)
    go_on_from_the_newest(tmp_path)
    assert last.read_bytes() == before


def test_damage_is_found_where_torch_does_not_look(tmp_path):
    """Blocks that never reached the disk read as zeros."""
    file = checkpoint(tmp_path / "checkpoint_last.pt", 30)
    assert is_whole(file)
    lose_a_block(file)
    assert updates(file) == 30
    assert not is_whole(file)
    torch.save({"w": 1}, file, _use_new_zipfile_serialization=False)
    assert is_whole(file)
    for content in (b"", bytes(5000)):
        file.write_bytes(content)
        assert not is_whole(file)


@settings(deadline=None)
@given(st.data())
def test_no_damage_stops_the_search(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    content = bytearray(checkpoint(folder / "checkpoint_last.pt", 30).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=9)):
        content[place] = data.draw(st.integers(0, 255))
    (folder / "checkpoint_last.pt").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    checkpoint(folder / "checkpoint_1_20.pt", 20)
    go_on_from_the_newest(folder)
    assert updates(folder / "checkpoint_last.pt") in (20, 30)


def test_what_was_half_written_is_removed_and_nothing_else(tmp_path):
    half = ("checkpoint_1_20.pt.tmp", "checkpoint_last.pt.tmp", ".checkpoint_best.pt.elsewhere-17.partial")
    kept = (
        "checkpoint_last.pt",
        "notes.tmp",
        "mine.pt.tmp",
        "checkpoint_last-shard1.pt.tmp",
        ".x.pt.n-1.partial",
    )
    for name in half + kept:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(kept)
    remove_leftovers(tmp_path, "-shard1")
    assert {file.name for file in tmp_path.iterdir()} == {*kept} - {"checkpoint_last-shard1.pt.tmp"}


def test_fairseq_train_goes_on_from_the_newest_whole_checkpoint(tmp_path, data, trained):
    shutil.copytree(trained.folder, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard"))
    os.truncate(tmp_path / "run" / "checkpoint_last.pt", 9999)
    (tmp_path / "run" / "checkpoint_last.pt.tmp").touch()
    finished = run("fairseq-train", data, *TRAIN, "--max-epoch=4", "--save-dir", tmp_path / "run")
    assert len(re.findall(r"checkpoint_last\.pt was damaged.*going on from checkpoint", finished.output)) == 1
    assert {entry["epoch"] for entry in map(dict, finished.logged("train_inner"))} == {4}
    assert is_whole(tmp_path / "run" / "checkpoint_last.pt")
    assert not list((tmp_path / "run").glob("*.tmp"))


def command(data, folder):
    return ["fairseq-train", *map(str, (data, *TRAIN, *SAVING, "--save-dir", folder, "--user-dir", USER_DIR))]


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    return run(*command(data, tmp_path_factory.mktemp("run")), user_dir=None).losses()


def test_a_kill_in_the_copy_of_fairseq_train_loses_no_saved_update(tmp_path, data, uninterrupted):
    code = COPY_HALF_AND_DIE.format(n=2, part=50)  # of the save after 6 updates
    code += f"import sys; sys.argv = {command(data, tmp_path)!r}\nfrom fairseq_cli.train import cli_main; cli_main()"
    killed = run("-c", code, succeeds=False)
    assert killed.status == -9
    finished = run(*command(data, tmp_path), user_dir=None)
    assert (
        "checkpoint_last.pt was older, as a kill leaves it: going on from checkpoint_1_6.pt"
        in finished.output
    )
    assert finished.losses() == uninterrupted[6:]
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_has_ended_makes_no_further_update(tmp_path, data, trained):
    shutil.copytree(trained.folder, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard"))
    last = tmp_path / "run" / "checkpoint_last.pt"
    before = last.read_bytes()
    flags = ("--max-update", updates(last), "--max-epoch", 9, "--save-dir", tmp_path / "run")
    finished = run("fairseq-train", data, *TRAIN, *flags)
    assert not finished.losses()
    assert "done training" in finished.output
    assert last.read_bytes() == before


def wait_for_updates(process, output, count):
    """Wait until it has made some, or has ended."""
    while process.is_alive() and output.read_text(errors="replace").count("| train_inner |") < count:
        time.sleep(0.02)


@pytest.mark.slow  # minutes
def test_kills_at_random_moments_lose_no_saved_update(tmp_path, data, uninterrupted):
    expected, moments, folder = dict(uninterrupted), random.Random(1), tmp_path / "run"
    kills = saved = 0
    while kills < 50:
        log = tmp_path / f"start{time.monotonic_ns()}"
        log.mkdir()
        (log / "output").touch()
        process = start(log, *command(data, folder), user_dir=None)
        wait_for_updates(process, log / "output", moments.randint(0, 6))
        process.join(timeout=moments.uniform(0, 0.3))
        process.kill()
        process.join()
        finished = Finished(process.exitcode, (log / "output").read_text(errors="replace"))
        assert finished.status in (0, -9), finished.output[-5000:]
        for update, loss in finished.losses():
            assert int(update) > saved
            assert loss == expected[update]
        saved = max([saved, *map(int, re.findall(r"Saved checkpoint .* @ (\d+) updates", finished.output))])
        if finished.status == 0:
            shutil.rmtree(folder)
            saved = 0
        kills += finished.status == -9
        print(f"kill {kills}: {finished.losses()[-1:]}, {saved} saved")
