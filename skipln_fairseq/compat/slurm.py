"""``srun … fairseq-train`` on several tasks trains one model, on CPUs too.

fairseq reads what Slurm says only where it counts more than one GPU. Else each task trains a copy in the same folder,
or, with the flags that fairseq's documentation names, ends at once and in success without a single update.
"""

import os
import subprocess
from collections.abc import Callable
from typing import Any

import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around
from skipln_fairseq.compat.torchrun import TORCHRUN, on_cpus

__all__ = ["apply"]


def apply() -> None:
    """Read what Slurm says before fairseq starts to train, in tasks that ``srun`` has started.

    The script that ``sbatch`` runs is no such task, and torchrun, within a task, comes first.
    """

    @around(distributed_utils, "call_main")
    def call_main(stock, cfg: FairseqConfig, main: Callable[..., Any], **kwargs: Any) -> None:
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
        if cfg.model is not None and tasks > 1 and not TORCHRUN.issubset(os.environ):
            join_tasks(
                cfg.distributed_training, tasks, on_cpu=cfg.common.cpu or not torch.cuda.is_available()
            )
        stock(cfg, main, **kwargs)


def join_tasks(cfg: Any, tasks: int, on_cpu: bool) -> None:
    """Fill the distributed flags from Slurm's environment, unless the user has set how to meet.

    Raises:
        UserError: it is not said whether the tasks train one model or one each.
    """
    if cfg.distributed_init_method is not None:
        return
    if cfg.distributed_port <= 0:
        raise UserError(
            f"srun started {tasks} tasks: give --distributed-port PORT, by which they train one model together, "
            "or start one task for each model"
        )
    if on_cpu:
        first = _hosts(os.environ["SLURM_STEP_NODELIST"])[0]
        on_cpus(cfg, f"tcp://{first}:{cfg.distributed_port}", tasks, rank=int(os.environ["SLURM_PROCID"]))
    elif cfg.distributed_world_size == 1:  # each sees a single GPU
        cfg.distributed_world_size = tasks


def _hosts(nodes: str) -> list[str]:
    """``a[1-2]`` is a1 and a2."""
    return subprocess.check_output(["scontrol", "show", "hostnames", nodes], text=True).split()
