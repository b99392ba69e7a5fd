"""Two nodes train one model: as one process does that sums two batches, or has the joined one."""

import math
import re
import shutil
import sys

import pytest
import torch

from skipln_fairseq.recipes import __main__ as recipes
from tests.recipes.test_train import TINY
from tests.support import launch
from tests.support.commands import TRAIN, run
from tests.support.launch import finish, torchrun

pytestmark = pytest.mark.slow

USER_DIR = ("--user-dir", "skipln_fairseq")
NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0")
# Adam divides by small gradients, which makes rounding large; the joined batches want a fixed order.
JOINED = (
    *("--optimizer", "sgd", "--lr", "0.1", "--clip-norm", "0"),
    *("--curriculum", "9", "--required-batch-size-multiple", "1"),
)
OVER_THE_BATCH = {
    "batch": ("--skip-type", "plain", "--skip-norm", "batch"),
    "power": (
        "--skip-type",
        "plain",
        "--skip-norm",
        "power",
        "--norm-placement",
        "pre",
        "--power-warmup",
        "2",
    ),
    "admin": ("--skip-type", "admin"),
}
# fairseq-train that tells which sentences it sees
TELL = """
import sys
from fairseq.tasks import FairseqTask
stock = FairseqTask.train_step

def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
    if not ignore_grad:
        print("seen", *sample["id"].tolist())
    return stock(self, sample, model, criterion, optimizer, update_num, ignore_grad)

FairseqTask.train_step = train_step
from fairseq_cli import train
sys.argv = ["fairseq-train", *sys.argv[1:]]
train.cli_main()
"""


def state(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def distance(folder, other):
    """The largest difference of two models' numbers."""
    one, two = state(folder), state(other)
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def test_torchrun_by_hand_equals_one_process_with_update_freq_2(nodes, data, tmp_path):
    """Gloo takes the interface to which the node's own name leads."""
    flags = (data, *TRAIN, *NO_DROPOUT)
    train = ("fairseq-train", *flags, "--save-dir", tmp_path / "two", *USER_DIR)
    first, second = finish(torchrun(nodes, tmp_path, train))
    alone = run("fairseq-train", *flags, "--update-freq", "2", "--save-dir", tmp_path / "one")
    assert "initialized host node0 as rank" in first.output
    assert "initialized host node1 as rank" in second.output
    told = first if first.losses() else second  # by the worker of rank 0, on either node
    assert len(told.losses()) == 6  # of 12 batches
    assert told.losses() == alone.losses()
    torch.testing.assert_close(state(tmp_path / "two"), state(tmp_path / "one"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interface", [None, "cable"])
def test_a_host_name_that_stands_for_the_loopback(interface, nodes_named_as_by_debian, data, tmp_path):
    """Gloo offers that to the other node, which is told, or takes the interface that is named."""
    train = (
        "fairseq-train",
        data,
        *TRAIN,
        "--max-update",
        "2",
        "--no-save",
        "--heartbeat-timeout",
        "15",
        *USER_DIR,
    )
    environment = {} if interface is None else {"GLOO_SOCKET_IFNAME": interface}
    started = torchrun(nodes_named_as_by_debian, tmp_path, train, **environment)
    if interface is not None:
        finish(started)
        return
    assert all(running.wait(100) != 0 for running in started)
    told = [
        line for running in started for line in running.output.splitlines() if "skipln_fairseq: error" in line
    ]
    # who is told first that the other has ended has nothing to say of its address
    assert all(
        "another process of this training has ended" in line or "at its address" in line for line in told
    )
    assert any(
        "at its address 127.0.1.1: it has ended, or GLOO_SOCKET_IFNAME has to name" in line for line in told
    )


def test_each_sentence_is_seen_by_one_node(nodes, data, tmp_path):
    train = (sys.executable, "-c", TELL, data, *TRAIN, "--no-save", *USER_DIR)
    seen = []
    for finished in finish(torchrun(nodes, tmp_path, train)):
        lines = re.findall(r"^seen (.*)$", finished.output, re.MULTILINE)
        assert len(lines) == 6
        seen.append([int(number) for line in lines for number in line.split()])
    assert sorted(seen[0] + seen[1]) == list(range(180))


@pytest.mark.parametrize("name", OVER_THE_BATCH)
def test_what_is_measured_over_the_batch_is_of_both_nodes(name, nodes, data, tmp_path):
    """Losses, parameters and statistics are those of one process that has both batches as one; so are evaluations."""
    flags = (data, *TRAIN, *NO_DROPOUT, *JOINED, *OVER_THE_BATCH[name], "--batch-size-valid", "4")
    train = ("fairseq-train", *flags, "--save-dir", tmp_path / "two", *USER_DIR)
    finished = finish(torchrun(nodes, tmp_path, train))
    told = next(one for one in finished if one.losses())
    alone = run("fairseq-train", *flags, "--batch-size", "32", "--save-dir", tmp_path / "one")
    run(
        "fairseq-train",
        *flags,
        "--update-freq",
        "2",
        "--no-epoch-checkpoints",
        "--save-dir",
        tmp_path / "halves",
    )
    assert len(told.losses()) == len(alone.losses()) == 6
    for (_, ours), (_, expected) in zip(told.losses(), alone.losses(), strict=True):
        assert math.isclose(float(ours), float(expected), abs_tol=2e-3)
    assert distance(tmp_path / "two", tmp_path / "one") < 1e-4
    assert distance(tmp_path / "halves", tmp_path / "one") > 1e-3  # each half measured by itself
    losses = [float(one.logged("valid")[-1]["valid_loss"]) for one in (told, alone)]
    for folder in ("two", "one"):
        checkpoint = tmp_path / folder / "checkpoint_last.pt"
        again = run(
            "fairseq-validate",
            data,
            "--task=translation",
            "--path",
            checkpoint,
            "--cpu",
            "--batch-size",
            "4",
            "--log-format=json",
        )
        losses.append(float(re.findall(r'"valid_loss": "([\d.]+)"', again.output)[-1]))
    assert max(losses) - min(losses) < 2e-3


def test_a_recipe_on_two_nodes(nodes, prepared, tmp_path, capsys):
    """``--nodes 2 --rendezvous``: an update has the recipe's tokens, and the model is that of one process."""
    train = {**TINY, "dropout": 0, "share-all-embeddings": True}
    recipe, work = prepared("own-data", train=train, average=0, **{"tokens-per-update": 800})
    alone = tmp_path / "alone"
    shutil.copytree(work, alone)
    recipes.main(["train", recipe, "--work-dir", str(alone), "--variant", "rskip", "--cpu"])
    assert "--update-freq 2" in capsys.readouterr().out
    started = launch.recipe(nodes, tmp_path, recipe, work)
    for finished in finish(started):
        assert "--update-freq 1" in finished.output
    torch.testing.assert_close(state(work / "rskip-1"), state(alone / "rskip-1"), rtol=1e-3, atol=1e-4)
    for node in nodes:
        assert (
            f"initialized host {node.name} as rank"
            in (work / "rskip-1" / f"train-{node.name}.log").read_text()
        )
