"""Nodes of a cluster on one machine: each has a network, a host name and processes of its own.

A node is a set of Linux namespaces without names, held by one process. The kernel removes them, with the cable
between them and all that runs in them, when that process ends; and that ends with the tests, however these end.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .commands import REPOSITORY

__all__ = ["Node", "Running", "missing", "two_nodes"]

PROGRAMS = ("ip", "unshare", "nsenter", "setpriv")
NAMES = ("node0", "node1")
CABLE = "cable"  # the interface on both ends; no library guesses this name
WAIT = "sleep 1000000"
# The shell is the node's init, which also reaps what loses its parent.
INIT = f"""
hostname "$1" && mount --bind "$2" /etc/hosts && ip link set lo up && echo ready
while true; do {WAIT} & wait; done
"""


def missing() -> str | None:
    """Why there can be no nodes here, or None."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    if os.geteuid() != 0:
        return "needs root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"needs {', '.join(absent)}, of iproute2 and util-linux"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--pid", "--fork", "true"], capture_output=True, text=True
    )
    return None if tried.returncode == 0 else f"no namespaces: {tried.stderr.strip()}"


@dataclass
class Running:
    """A command on a node."""

    process: subprocess.Popen
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float) -> int:
        """Its exit status."""
        return self.process.wait(timeout)


@dataclass
class Node:
    """One node: its init process has the namespaces."""

    name: str
    address: str
    init: int

    def enter(self, *command: str) -> list[str]:
        """The words that run a command here."""
        return ["nsenter", "--target", str(self.init), "--net", "--uts", "--mount", "--pid", *command]

    def start(self, log: Path, command: Sequence[object], **environment: str) -> Running:
        """Start a command from the repository, its output in a file."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        shared = {
            "PATH": path,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.enter("env", f"--chdir={REPOSITORY}", *map(str, command)),
                env={**os.environ, **shared, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Running(process, log)

    def processes(self) -> dict[int, str]:
        """What runs here, number and command line, but for the init and its child."""
        here = os.readlink(f"/proc/{self.init}/ns/pid")
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns/pid") != here:
                    continue
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has ended
                continue
            if line and line.strip() != WAIT and int(folder.name) != self.init:  # a zombie has no line
                found[int(folder.name)] = line
        return found

    def workers(self) -> list[int]:
        """The processes that train: an interpreter, and the script that pip installed."""
        script = str(Path(sys.executable).parent / "fairseq-train")
        return [pid for pid, line in self.processes().items() if script in line.split()[:2]]

    def kill(self) -> None:
        """SIGKILL to all processes at once, as if the node were out of memory. Its kernel still says so."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def cable(self, state: str) -> None:
        """Plug it in (``up``) or pull it out (``down``): nobody is told."""
        subprocess.run(self.enter("ip", "link", "set", CABLE, state), check=True)


@contextmanager
def two_nodes(folder: Path, own_name: str | None = None) -> Iterator[tuple[Node, Node]]:
    """Two nodes and a cable between them.

    Args:
        folder: for their tables of hosts.
        own_name: the address that each takes its own name for, if that is not its address on the cable.
    """
    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(NAMES, start=1)}
    with ExitStack() as stack:
        nodes = []
        for name in NAMES:
            table = {**addresses, name: own_name or addresses[name]}
            hosts = folder / f"hosts-of-{name}"
            lines = [f"{address} {host}" for host, address in table.items()]
            hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
            nodes.append(Node(name, addresses[name], stack.enter_context(_held(name, hosts))))
        one, other = (f"{CABLE} netns {node.init}".split() for node in nodes)
        subprocess.run(["ip", "link", "add", *one, "type", "veth", "peer", "name", *other], check=True)
        for node in nodes:
            subprocess.run(node.enter("ip", "addr", "add", f"{node.address}/24", "dev", CABLE), check=True)
            node.cable("up")
        yield nodes[0], nodes[1]


@contextmanager
def _held(name: str, hosts: Path) -> Iterator[int]:
    """The process that a node consists of."""
    new = ("--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *new, "sh", "-c", INIT, "init", name, str(hosts)],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout.readline() == "ready\n"
            yield int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())
        finally:
            holder.kill()
