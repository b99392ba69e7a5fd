"""What is said, and how long is waited, where a training loses one of its processes; on two nodes: tests/cluster."""

from datetime import timedelta

import pytest
import torch
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf
from torch import distributed as dist

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.lost import LOST
from skipln_fairseq.compat.lost_workers import DEFAULT_SECONDS, explain
from tests.compat.test_torchrun import free_port
from tests.support.commands import SERVER

GLOO = "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/"
SAID = {
    f"{GLOO}pair.cc:537] Read error [10.77.0.2]:63111: Connection reset by peer. This is": LOST,
    f"{GLOO}pair.cc:553] Connection closed by peer [10.77.0.2]:33961. This is": LOST,
    f"{GLOO}unbound_buffer.cc:119] Timed out waiting 20000ms for recv operation to complete": LOST,
    f"Gloo connectFullMesh failed with {GLOO}pair.cc:152] timed out connecting: SO_ERROR: Connection refused, "
    "remote=[127.0.1.1]:11687$0": "at its address 127.0.1.1: it has ended, or GLOO_SOCKET_IFNAME has to name",
    f"[enforce fail at {GLOO[1:]}device.cc:84] ifa != nullptr. Unable to find address for: eth7": "no interface eth7 ",
}


@pytest.mark.parametrize("said", SAID)
def test_what_gloo_says_is_told_in_one_line(said):
    told = explain(RuntimeError(said), 20)
    assert SAID[said] in told
    assert "\n" not in told
    assert "This is" not in told


def test_other_errors_stay_what_they_are():
    assert explain(RuntimeError("CUDA error: out of memory"), 20) is None
    told = explain(dist.DistNetworkError("The client socket has timed out\nframe #0"), 20)
    assert told == "the processes of this training do not find each other: The client socket has timed out"


def wait_alone(rank, port, heartbeat, folder):
    """Meet the other process; the second one then says nothing any more."""
    from skipln_fairseq import compat  # noqa: F401

    cfg = OmegaConf.create(
        {
            "distributed_training": {
                "distributed_rank": rank,
                "distributed_world_size": 2,
                "distributed_backend": "gloo",
                "distributed_init_method": f"tcp://localhost:{port}",
                "heartbeat_timeout": heartbeat,
                "device_id": 0,
            },
            "common": {"tpu": False, "cpu": True, "model_parallel_size": 1},
        }
    )
    groups = []

    def main(cfg):
        for group in (dist.group.WORLD, distributed_utils.get_global_group()):
            groups.append(group._get_backend(torch.device("cpu")).options._timeout)
        if rank == 0 and heartbeat > 0:
            dist.all_reduce(torch.zeros(1), group=distributed_utils.get_global_group())
        elif heartbeat > 0:
            import time

            time.sleep(3 * heartbeat)

    error = None
    try:
        distributed_utils.distributed_main(0, main, cfg, {})
    except UserError as one:
        error = str(one)
    torch.save((groups, error, dist.is_initialized()), f"{folder}/{rank}.pt")


@pytest.mark.parametrize("heartbeat", [-1, 2])
def test_both_groups_wait_as_long_as_the_flag_says(heartbeat, tmp_path):
    port = free_port()
    processes = [
        SERVER.Process(target=wait_alone, args=(rank, port, heartbeat, str(tmp_path))) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        process.kill()
    with torch.serialization.safe_globals([timedelta]):
        groups, error, still_there = torch.load(tmp_path / "0.pt", weights_only=True)
    assert groups == [timedelta(seconds=heartbeat if heartbeat > 0 else DEFAULT_SECONDS)] * 2
    if heartbeat > 0:
        assert error.startswith(f"{LOST} in 2 s (--heartbeat-timeout)")
    else:
        assert error is None
        assert not still_there  # gloo's threads might abort the process at its end
