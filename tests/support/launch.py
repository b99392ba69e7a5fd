"""A training on each of two nodes, as a user starts it."""

import sys
from pathlib import Path

from .commands import Finished
from .nodes import Node, Running

__all__ = ["finish", "recipe", "torchrun"]

RENDEZVOUS = "node0:29500"


def torchrun(
    nodes: tuple[Node, ...], folder: Path, command: tuple, *flags: str, of: str = "2", **environment: str
) -> list[Running]:
    """Start it on each; its output is in *folder*, in a file for each node.

    Args:
        command: of each worker.
        flags: more of torchrun's.
        of: how many nodes, for ``--nnodes``.
    """
    meet = ("--rdzv_backend", "c10d", "--rdzv_endpoint", RENDEZVOUS, "--rdzv_id", "x")
    line = ("torchrun", "--nnodes", of, "--nproc_per_node", "1", *meet, *flags, "--no-python", *command)
    return [node.start(folder / f"{node.name}.log", line, **environment) for node in nodes]


def recipe(nodes: tuple[Node, ...], folder: Path, file: str, work: Path, *flags: object) -> list[Running]:
    """The same for ``recipes train``, with a recipe's file and its prepared work directory."""
    command = (sys.executable, "-m", "skipln_fairseq.recipes", "train", file, "--work-dir", work)
    several = ("--variant", "rskip", "--cpu", "--nodes", "2", "--rendezvous", RENDEZVOUS)
    return [node.start(folder / f"{node.name}.log", (*command, *several, *flags)) for node in nodes]


def finish(started: list[Running], timeout: float = 200) -> list[Finished]:
    """Wait until all have ended well."""
    finished = [Finished(running.wait(timeout), running.output) for running in started]
    for one in finished:
        assert one.status == 0, one.output[-5000:]
    return finished
