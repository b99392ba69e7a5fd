"""A training that has lost one of its processes ends in a bounded time, in one line.

fairseq lets the others wait for as long as torch does: on CPUs half an hour, if a node vanished without a word. Its
``--heartbeat-timeout`` interrupts Python, which does not run while a process waits for another.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from torch import distributed as dist
from torch import nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.lost import LOST
from skipln_fairseq.compat.patch import around

__all__ = ["DEFAULT_SECONDS", "apply", "explain"]

DEFAULT_SECONDS = 600  # torch's own on GPUs
# What gloo says, and what it means to the user.
MEANINGS = (
    (
        r"Unable to find address for: (\S+)",
        "GLOO_SOCKET_IFNAME: this node has no interface {0} with an address",
    ),
    (
        r"connectFullMesh failed.*remote=\[([^\]]+)\]",
        "another process cannot be reached at its address {0}: it has ended, or GLOO_SOCKET_IFNAME has to name the "
        "network interface that the nodes share",
    ),
    (
        r"gloo/transport/.*?\] ?(.*?)(?:\. |\n|$)",
        f"{LOST} in {{seconds}} s (--heartbeat-timeout): a new start on all nodes goes on from the last checkpoint. "
        "gloo: {0}",
    ),
)


def apply() -> None:
    """Let the processes meet with a limit to their patience, and say what ended them.

    ``call_main`` calls both functions. Where fairseq itself starts a process for each GPU of one machine, these do not
    know this package yet, and have torch's limit.
    """

    @around(distributed_utils, "distributed_init")
    def distributed_init(stock, cfg: FairseqConfig) -> int:
        patience = timedelta(seconds=_seconds(cfg.distributed_training))
        with _meeting(patience):
            rank = stock(cfg)
        if dist.is_initialized():  # not on a TPU
            # fairseq's second group, of the same processes, has a limit of its own
            distributed_utils.get_global_group._global_group = dist.new_group(timeout=patience)
        # fairseq's thread for the same purpose, for which a training's end would wait
        distributed_fairseq_model.DistributedTimeoutWrapper = _as_it_is
        return rank

    @around(distributed_utils, "distributed_main")
    def distributed_main(stock, i: int, main: Any, cfg: FairseqConfig, kwargs: Any) -> None:
        try:
            stock(i, main, cfg, kwargs)
        except RuntimeError as error:
            meaning = explain(error, _seconds(cfg.distributed_training))
            if meaning is None:
                raise
            raise UserError(meaning) from error
        if dist.is_initialized():
            # left to the interpreter's end, gloo's threads now and then abort a process that has done its work, and
            # torchrun reports a failed training
            dist.destroy_process_group()
            del distributed_utils.get_global_group._global_group


def explain(error: RuntimeError, seconds: int) -> str | None:
    """What the user should know of an error of gloo's, in one line; None for any other error."""
    for pattern, meaning in MEANINGS:
        if found := re.search(pattern, str(error)):
            return meaning.format(*found.groups(), seconds=seconds)
    if isinstance(error, (dist.DistNetworkError, dist.DistStoreError)):
        return f"the processes of this training do not find each other: {str(error).splitlines()[0]}"
    return None


def _seconds(cfg: Any) -> int:
    return cfg.heartbeat_timeout if cfg.heartbeat_timeout > 0 else DEFAULT_SECONDS


@contextmanager
def _meeting(patience: timedelta) -> Iterator[None]:
    """Within it fairseq makes a group whose members wait so long for each other."""
    stock = dist.init_process_group
    dist.init_process_group = partial(stock, timeout=patience)
    try:
        yield
    finally:
        dist.init_process_group = stock


def _as_it_is(module: nn.Module, timeout: int) -> nn.Module:
    return module
