"""SIGUSR1 lets a training save and end, at whatever moment, and with however many workers."""

import os
import re
import signal

import pytest
import torch

from tests.compat.test_interrupted import wait_for_updates
from tests.compat.test_torchrun import free_port
from tests.support.commands import TRAIN, run, start, wait

LONG = ("--max-epoch", 99, "--no-epoch-checkpoints")
ENDED = re.compile(
    r"^(?:\[rank\d\]: )?skipln_fairseq: error: ended by SIGUSR1 after (\d+) updates, (.*)$", re.MULTILINE
)


def updates(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["optimizer_history"][-1]["num_updates"]


def signalled(folder, count, *command, env=None):
    """What a training prints that gets the signal after some updates."""
    folder.mkdir()
    (folder / "output").touch()
    process = start(folder, *command, env=env)
    wait_for_updates(process, folder / "output", count)
    os.kill(process.pid, signal.SIGUSR1)
    return process


@pytest.mark.parametrize("more", [(), ("--update-freq", 2, "--num-workers", 1)], ids=["", "accumulating"])
def test_it_saves_after_the_update_and_goes_on_there(more, tmp_path, data):
    line = ("fairseq-train", data, *TRAIN, *LONG, *more)
    process = signalled(tmp_path / "first", 14, *line, "--save-dir", tmp_path / "run")
    first = wait(tmp_path / "first", process, succeeds=False)
    assert first.status == 1
    (ended,) = ENDED.findall(first.output)
    count = int(ended[0])
    assert ended[1] == "which are saved: started again, it goes on"
    assert len(first.losses()) == updates(tmp_path / "run") == count >= 14

    to = ("--max-update", count + 5)
    second = run(*line, *to, "--save-dir", tmp_path / "run")
    whole = run(*line, *to, "--save-dir", tmp_path / "whole")
    assert first.losses() + second.losses() == whole.losses()


def test_all_workers_end_after_the_same_update_if_one_gets_the_signal(tmp_path, data):
    line = ("fairseq-train", data, *TRAIN, *LONG, "--save-dir", tmp_path / "run")
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    folders = {rank: tmp_path / rank for rank in "01"}
    processes = {}
    for rank, folder in folders.items():
        folder.mkdir()
        (folder / "output").touch()
        processes[rank] = start(folder, *line, env=env | {"RANK": rank, "LOCAL_RANK": rank})
    wait_for_updates(processes["0"], folders["0"] / "output", 4)
    os.kill(processes["1"].pid, signal.SIGUSR1)
    ends = [
        ENDED.findall(wait(folders[rank], process, succeeds=False).output)
        for rank, process in processes.items()
    ]
    assert ends[0] == ends[1]
    assert updates(tmp_path / "run") == int(ends[0][0][0])


def test_what_may_not_be_saved_is_said(tmp_path, data):
    line = ("fairseq-train", data, *TRAIN, *LONG, "--no-save", "--save-dir", tmp_path / "run")
    ended = wait(tmp_path / "log", signalled(tmp_path / "log", 2, *line), succeeds=False)
    assert ENDED.search(ended.output)[2].startswith("which are not saved, by --no-save")
    assert not list(tmp_path.glob("run/*.pt"))


def test_a_save_that_is_due_is_made_once(tmp_path, data):
    """At the end of an epoch, with its validation."""
    at_the_end = """
import os, signal, sys
from fairseq_cli import train
stock = train.train
def signalled(cfg, trainer, task, epoch_itr):
    step = trainer.train_step
    def last(samples):
        if trainer.get_num_updates() == 11:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(samples)
    trainer.train_step = last
    return stock(cfg, trainer, task, epoch_itr)
train.train = signalled
sys.argv = ["fairseq-train", *sys.argv[2:]]
train.cli_main()
"""
    line = (data, *TRAIN, "--max-epoch", 3, "--save-dir", tmp_path, "--user-dir", "skipln_fairseq")
    ended = run("-c", at_the_end, *line, succeeds=False)
    assert ENDED.search(ended.output)[1] == "12"
    assert ended.output.count("Saved checkpoint") == 1
    assert (tmp_path / "checkpoint_best.pt").exists()
