"""What Slurm says is read on CPUs too. The daemons themselves: tests/cluster/test_slurm.py."""

import pytest
from fairseq.dataclass.configs import DistributedTrainingConfig
from omegaconf import OmegaConf

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat import slurm
from skipln_fairseq.compat.slurm import join_tasks
from tests.support.commands import TRAIN, run

STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "node[1-2]"}


@pytest.fixture
def cfg(monkeypatch):
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm, "_hosts", lambda nodes: ["node1", "node2"])
    cfg = OmegaConf.structured(DistributedTrainingConfig)
    cfg.distributed_world_size, cfg.distributed_port = 1, 12345
    return cfg


def test_on_cpus_a_task_is_a_worker(cfg):
    cfg.ddp_backend = "no_c10d"
    join_tasks(cfg, 4, on_cpu=True)
    assert cfg.distributed_init_method == "tcp://node1:12345"
    assert (cfg.distributed_world_size, cfg.distributed_rank, cfg.distributed_no_spawn) == (4, 3, True)
    assert (cfg.distributed_backend, cfg.ddp_backend) == ("gloo", "no_c10d")


def test_on_gpus_fairseq_reads_it_itself_once_it_counts_more_than_one(cfg):
    join_tasks(cfg, 4, on_cpu=False)
    assert cfg.distributed_world_size == 4
    cfg.distributed_world_size = 16
    join_tasks(cfg, 4, on_cpu=False)
    assert (cfg.distributed_world_size, cfg.distributed_init_method) == (16, None)


def test_how_processes_meet_is_the_users_choice(cfg):
    cfg.distributed_init_method = "tcp://somewhere:1234"
    before = OmegaConf.to_container(cfg)
    join_tasks(cfg, 4, on_cpu=True)
    assert OmegaConf.to_container(cfg) == before


def test_without_a_port_nobody_knows_whether_they_belong_together(cfg):
    cfg.distributed_port = -1
    with pytest.raises(UserError, match="srun started 4 tasks: give --distributed-port PORT"):
        join_tasks(cfg, 4, on_cpu=False)


def test_this_is_said_in_one_line_before_anything_is_written(data, tmp_path):
    refused = run("fairseq-train", data, *TRAIN, "--save-dir", tmp_path / "run", env=STEP, succeeds=False)
    assert "skipln_fairseq: error: srun started 4 tasks" in refused.output
    assert "Traceback" not in refused.output
    assert not (tmp_path / "run").exists()


def test_what_sbatch_runs_is_no_task_of_srun(data, tmp_path):
    env = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "node[1-2]"}
    flags = ("--max-update", 1, "--no-save", "--disable-validation", "--save-dir", tmp_path)
    assert len(run("fairseq-train", data, *TRAIN, *flags, env=env).losses()) == 1
