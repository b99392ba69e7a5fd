"""A node fails: the other one ends soon and says so, and the training goes on from its last whole checkpoint."""

import os
import re
import signal
import time

import pytest

from skipln_fairseq.common.lost import LOST
from skipln_fairseq.recipes.launcher import GRACE
from tests.recipes.test_train import TINY
from tests.support import launch
from tests.support.commands import TRAIN
from tests.support.launch import finish, torchrun

pytestmark = pytest.mark.slow

EVERY = 5  # updates between two checkpoints
PATIENCE = 15  # seconds, for --heartbeat-timeout
ENDS_IN = 30  # seconds more, on busy cores, for what takes three
EPOCHS, LAST = 30, 180  # of six updates
SAVES = ("--save-interval-updates", EVERY, "--keep-interval-updates", "2", "--no-epoch-checkpoints")
# Each start has a store of its own: torchrun's shared one keeps the addresses of those that ended.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def train(data, folder, *flags, epochs=500):
    where = ("--save-dir", folder, "--user-dir", "skipln_fairseq")
    return ("fairseq-train", data, *TRAIN, "--dropout", "0", *SAVES, *where, "--max-epoch", epochs, *flags)


def updates(running):
    """The numbers of its updates, in the order in which they were made."""
    return [
        int(number) for number in re.findall(r'\| train_inner \| .*"num_updates": "(\d+)"', running.output)
    ]


def wait_for_updates(started, least=2 * EVERY + 2):
    """Until a node has said that they were made; gives that node's output."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for running in started:
            if updates(running) and updates(running)[-1] >= least:
                return running
        time.sleep(0.05)
    raise AssertionError([running.output[-3000:] for running in started])


def kill_worker(node):
    [worker] = node.workers()
    os.kill(worker, signal.SIGKILL)


FAILURES = {
    "a worker is killed": (kill_worker, 0),
    "a node is killed": (lambda node: node.kill(), 0),
    "the cable is pulled": (lambda node: node.cable("down"), PATIENCE),
}


def ended_in_one_line(output):
    """The worker's own words are this line; torchrun may have ended it before, where it lost the rendezvous."""
    lines = [line for line in output.splitlines() if LOST in line]
    if not lines and "RendezvousConnectionError: The connection to the C10d store has failed" in output:
        return
    assert len(lines) == 1, output[-3000:]
    assert re.match(r"(\[rank\d\]: )?skipln_fairseq: error: ", lines[0])
    assert "in fairseq_cli" not in output.replace("fairseq_cli.train", "")  # no traceback of its own


@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize("failure", FAILURES)
def test_the_others_end_and_a_restart_goes_on(failure, failed, nodes, data, tmp_path):
    """On either node, of which the first has the rendezvous."""
    fail, patience = FAILURES[failure]
    started = torchrun(nodes, tmp_path, train(data, tmp_path / "c", "--heartbeat-timeout", PATIENCE))
    told = wait_for_updates(started)
    fail(nodes[failed])
    since = time.monotonic()
    other = nodes[1 - failed]
    while other.workers():
        assert time.monotonic() - since < patience + ENDS_IN
        time.sleep(0.1)
    print(f"{failure}, node {failed}: the other's worker ended after {time.monotonic() - since:.1f} s")
    if (
        failure == "the cable is pulled"
    ):  # torchrun of the node without the rendezvous waits for Linux, see docs/clusters.md
        started[0].wait(ENDS_IN)
        nodes[1].kill()
        nodes[failed].cable("up")
    for running in started:
        assert running.wait(ENDS_IN) != 0
    ended_in_one_line(started[1 - failed].output)
    assert not nodes[0].processes()
    assert not nodes[1].processes()

    made = updates(told)[-1]
    for running in started:
        running.log.unlink()
    told = wait_for_updates(torchrun(nodes, tmp_path, train(data, tmp_path / "c")), least=made + 1)
    went_on = updates(told)
    assert made - EVERY < went_on[0] <= made + 2
    assert went_on == list(range(went_on[0], went_on[-1] + 1))
    assert "Loaded checkpoint" in told.output


def assert_nothing_was_lost(*outputs):
    """All updates were made, and not more than those since a checkpoint twice."""
    made = [number for running in outputs for number in updates(running)]
    assert sorted(set(made)) == list(range(1, LAST + 1))
    assert len(made) <= LAST + EVERY
    assert any("Loaded checkpoint" in running.output for running in outputs)


def test_torchrun_starts_a_killed_worker_again(nodes, data, tmp_path):
    command = train(data, tmp_path / "c", epochs=EPOCHS)
    started = torchrun(nodes, tmp_path, command, "--max-restarts", "3", **OWN_STORE)
    wait_for_updates(started)
    kill_worker(nodes[1])
    finish(started)
    assert_nothing_was_lost(*started)


def test_a_killed_node_joins_again(nodes, data, tmp_path):
    command = train(data, tmp_path / "c", epochs=EPOCHS)
    first, second = torchrun(nodes, tmp_path, command, "--max-restarts", "3", **OWN_STORE)
    wait_for_updates([first, second])
    nodes[1].kill()
    second.wait(5)
    [again] = torchrun(nodes[1:], tmp_path, command, "--max-restarts", "3", **OWN_STORE)
    finish([first, again])
    assert_nothing_was_lost(first, again)


def test_elastic_torchrun_with_a_node_fewer_is_refused(nodes, data, tmp_path):
    """It would go on with half the sentences in an update."""
    flags = ("--max-restarts", "1", "--rdzv_conf", "last_call_timeout=5")
    started = torchrun(nodes, tmp_path, train(data, tmp_path / "c"), *flags, of="1:2", **OWN_STORE)
    wait_for_updates(started)
    nodes[1].kill()
    assert started[0].wait(120) != 0
    assert re.search(
        r"skipln_fairseq: error: tokens or sentences: an update had 32 with 2 processes and has 16 with 1: "
        r"give --update-freq 2, or --restore-file",
        started[0].output,
    )
    assert not nodes[0].processes()


def test_a_recipe_ends_where_the_cable_is_pulled(nodes, prepared, tmp_path):
    """On both nodes, in the time that ``--heartbeat-timeout`` says and torchrun's grace."""
    recipe, work = prepared(
        "own-data", train={**TINY, "max-epoch": 500}, average=0, **{"tokens-per-update": 800}
    )
    started = launch.recipe(nodes, tmp_path, recipe, work, "--heartbeat-timeout", PATIENCE)
    logs = [work / "rskip-1" / f"train-{node.name}.log" for node in nodes]
    end = time.monotonic() + 120
    while not any(log.exists() and '"num_updates": "5"' in log.read_text() for log in logs):
        assert time.monotonic() < end
        time.sleep(0.1)
    nodes[1].cable("down")
    since = time.monotonic()
    for node, running in zip(nodes, started, strict=True):
        assert running.wait(PATIENCE + GRACE + ENDS_IN) == 1
        print(f"recipes on {node.name} ended after {time.monotonic() - since:.1f} s")
        assert LOST in running.output
        assert "Traceback" not in running.output
        assert not node.processes()
