"""``torchrun … fairseq-train … --cpu`` trains one model on all processes, instead of N copies of it; without torchrun
there is one process, whatever GPUs there are.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils

from skipln_fairseq.compat.patch import around

__all__ = ["TORCHRUN", "apply", "on_cpus"]

# What torchrun sets for each process. Some clusters set WORLD_SIZE alone, for purposes of their own.
TORCHRUN = {"WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"}


def apply() -> None:
    """Read what torchrun says before fairseq starts to train.

    fairseq counts GPUs to find out how many processes there are, so on a CPU each of them believes to be
    alone; and where there are GPUs that ``--cpu`` leaves alone, it starts one for each of them, which fail at
    NCCL. Its commands all call ``distributed_utils.call_main``.
    """

    @around(distributed_utils, "call_main")
    def call_main(stock, cfg: FairseqConfig, main: Callable[..., Any], **kwargs: Any) -> None:
        trains = cfg.model is not None
        on_cpu = cfg.common.cpu or not torch.cuda.is_available()
        if trains and on_cpu and TORCHRUN.issubset(os.environ) and int(os.environ["WORLD_SIZE"]) > 1:
            join_torchrun(cfg.distributed_training)
        if cfg.common.cpu:
            stay_alone(cfg.distributed_training)
        stock(cfg, main, **kwargs)


def join_torchrun(cfg: Any) -> None:
    """Fill the distributed flags from torchrun's environment, unless the user has set how to meet."""
    if cfg.distributed_init_method is None:
        on_cpus(cfg, "env://", int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]))


def on_cpus(cfg: Any, init_method: str, world_size: int, rank: int) -> None:
    """Set how processes that something else has started meet on CPUs; a backend that the user has chosen is kept."""
    cfg.distributed_init_method = init_method
    cfg.distributed_world_size = world_size
    cfg.distributed_rank = rank
    cfg.distributed_no_spawn = True
    if cfg.distributed_backend == "nccl":  # the default, for GPUs only
        cfg.distributed_backend = "gloo"
    if cfg.ddp_backend in ("pytorch_ddp", "c10d"):  # the default, which fairseq hands a GPU's number
        cfg.ddp_backend = "legacy_ddp"


def stay_alone(cfg: Any) -> None:
    """Leave the GPUs uncounted, unless the user has set how processes meet."""
    if cfg.distributed_init_method is None and cfg.distributed_backend == "nccl":
        cfg.distributed_world_size = 1
