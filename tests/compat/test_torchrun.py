"""On a CPU, two processes under torchrun train one model."""

import contextlib
import socket
import subprocess
import sys

import pytest
import torch
from fairseq.dataclass.configs import DistributedTrainingConfig
from omegaconf import OmegaConf

from skipln_fairseq.compat.torchrun import join_torchrun, stay_alone
from tests.support.commands import REPOSITORY, TRAIN, Finished, run, run_isolated, start, wait

NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]


def free_port() -> str:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def parameters(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def test_two_processes_equal_one_with_update_freq_2(tmp_path, data):
    """Same batches, summed by gloo or by the accumulator: within float32 rounding after six updates."""
    one, two = tmp_path / "one", tmp_path / "two"
    flags = [data, *TRAIN, *NO_DROPOUT]
    alone = run("fairseq-train", *flags, "--update-freq=2", "--save-dir", one)
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    processes = []
    for rank in "01":
        (tmp_path / rank).mkdir()
        mine = env | {"RANK": rank, "LOCAL_RANK": rank}
        processes.append(start(tmp_path / rank, "fairseq-train", *flags, "--save-dir", two, env=mine))
    together, _ = (wait(tmp_path / rank, process) for rank, process in zip("01", processes, strict=True))

    assert len(together.losses()) == len(alone.losses()) == 6
    assert together.losses() == alone.losses()
    expected = parameters(one)
    for name, value in parameters(two).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_under_torchrun_itself_an_epoch_has_half_the_updates(tmp_path, data):
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", free_port()]
    train = [*torchrun, "-m", "fairseq_cli.train"]
    finished = run_isolated(*train, data, *TRAIN, "--user-dir", "skipln_fairseq", "--save-dir", tmp_path)
    assert len(finished.losses()) == 6
    assert (tmp_path / "checkpoint_last.pt").exists()


@pytest.fixture
def torchrun_environment(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")


@pytest.mark.usefixtures("torchrun_environment")
def test_what_the_user_chose_is_kept():
    cfg = OmegaConf.structured(DistributedTrainingConfig)
    cfg.ddp_backend = "no_c10d"
    join_torchrun(cfg)
    assert (cfg.distributed_world_size, cfg.distributed_rank, cfg.ddp_backend) == (4, 3, "no_c10d")

    cfg = OmegaConf.structured(DistributedTrainingConfig)
    cfg.distributed_init_method = "tcp://somewhere:1234"
    before = OmegaConf.to_container(cfg)
    join_torchrun(cfg)
    assert OmegaConf.to_container(cfg) == before


TWO_GPUS = """
import sys, torch
torch.cuda.device_count = lambda: 2
from fairseq_cli import train
sys.argv = ["fairseq-train", *sys.argv[1:]]
train.cli_main()
"""


def test_gpus_that_are_not_used_are_not_counted(data, tmp_path):
    flags = [*TRAIN, "--max-update", "2", "--no-save", "--save-dir", tmp_path, "--user-dir", "skipln_fairseq"]
    line = [sys.executable, "-c", TWO_GPUS, data, *flags]
    done = subprocess.run(list(map(str, line)), cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distributed init" not in done.stdout + done.stderr
    assert len(Finished(0, done.stdout + done.stderr).losses()) == 2


def test_how_processes_meet_is_the_users_choice():
    cfg = OmegaConf.structured(DistributedTrainingConfig)
    cfg.distributed_world_size, cfg.distributed_backend = 3, "gloo"
    stay_alone(cfg)
    assert cfg.distributed_world_size == 3


def test_a_world_size_alone_is_not_torchruns(data, tmp_path):
    """Some clusters set it for purposes of their own, without a rank."""
    flags = ("--max-update", "1", "--no-save", "--disable-validation", "--save-dir", tmp_path)
    assert run("fairseq-train", data, *TRAIN, *flags, env={"WORLD_SIZE": "2"}).losses()
