"""A Slurm cluster on this machine: real daemons, two nodes that are two ``slurmd``, in namespaces of their own.

The namespaces (processes, network, mounts) end with this process, and all that runs in them: nothing stays behind, no
port is taken, and the nodes' names stand in an /etc/hosts that only they see. Needs root, and Debian's packages
slurm-wlm and munge, whose daemons need not run and whose configuration is not read.
"""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .commands import REPOSITORY

__all__ = ["Cluster", "cluster", "missing"]

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "unshare", "nsenter", "setpriv", "ip")
NODES = {"node1": "192.0.2.1", "node2": "192.0.2.2"}  # addresses for examples, RFC 5737

# Processes are found by their parents: as with cgroups, a signal reaches all of a job. cred_expire is also how long a
# requeued job waits. The GPUs are names only: of what they give, jobs see the count.
CONFIGURATION = """
ClusterName=here
SlurmctldHost=localhost
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=30
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=node1 NodeHostname=localhost NodeAddr=192.0.2.1 Port=17001 CPUs=4 Gres=gpu:1 State=UNKNOWN
NodeName=node2 NodeHostname=localhost NodeAddr=192.0.2.2 Port=17002 CPUs=4 Gres=gpu:1 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""

# The first process of the namespaces, with which all others end. It stays to bury them.
START = """
set -e
cd "$1"
mount --bind hosts /etc/hosts
ip link set lo up
ip address add 192.0.2.1 dev lo # the daemons find no address to listen at where there is none but 127.0.0.1
ip address add 192.0.2.2 dev lo
munged --foreground --force --socket "$1/munge.socket" --key-file "$1/munge.key" \
  --pid-file "$1/munged.pid" --log-file "$1/munged.log" --seed-file "$1/munged.seed" &
slurmctld -D &
for node in node1 node2; do
  unshare --uts sh -c "hostname $node && exec slurmd -D -N $node" &
done
touch started
wait
"""


@functools.cache
def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for namespaces"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install slurm-wlm munge util-linux iproute2"
    if subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True
    ).returncode:
        return "may not make namespaces here"
    return None


class Cluster:
    """Runs Slurm's commands in the cluster of ``folder``, whose namespaces ``process`` holds."""

    def __init__(self, folder: Path, process: int):
        self.folder = folder
        self._enter = ["nsenter", "--target", str(process), "--mount", "--net", "--pid"]

    def run(self, *command: object, cwd: Path = REPOSITORY, timeout: float = 300, check=True) -> str:
        """What a command prints; this Python's commands are on its path."""
        done = subprocess.run(
            [*self._enter, f"--wd={cwd}", *map(str, command)],
            env=environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0 or not check, done.stdout[-5000:]
        return done.stdout

    def submit(self, *words: object, cwd: Path = REPOSITORY) -> str:
        """The number of a job that ``sbatch`` takes."""
        return self.run("sbatch", "--parsable", *words, cwd=cwd).strip()

    def state(self, job: str) -> dict[str, str]:
        """All that ``scontrol show job`` says."""
        return dict(re.findall(r"(\w[\w:/]*)=(\S*)", self.run("scontrol", "--oneliner", "show", "job", job)))

    def wait(self, job: str, *states: str, seconds: float = 300) -> dict[str, str]:
        """Wait until the job is in one of the states."""
        wait_for(lambda: self.state(job)["JobState"] in states, f"job {job} to be {states}", seconds)
        return self.state(job)


def environment(folder: Path) -> dict[str, str]:
    """Of the clients, and so of the jobs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    return {**ours, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(REPOSITORY)}


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Ask again and again.

    Raises:
        TimeoutError: it does not come true.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} seconds for {what}")
        time.sleep(0.3)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start the daemons, give the cluster when its nodes are idle, and end all of it."""
    for name in ("state", "spool-node1", "spool-node2"):
        (folder / name).mkdir()
    hosts = {"localhost": "127.0.0.1", os.uname().nodename: "127.0.0.1", **NODES}
    (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder))
    (folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/zero\n")
    subprocess.run(["mungekey", "--create", "--keyfile", folder / "munge.key"], check=True)
    line = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
    ]
    line += ["--mount-proc", "sh", "-c", START, "sh", str(folder)]
    with (
        (folder / "daemons.log").open("w") as log,
        subprocess.Popen(line, stdout=log, stderr=log, env=environment(folder)) as process,
    ):
        try:
            wait_for((folder / "started").exists, "the daemons")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            here = Cluster(folder, int(children))
            wait_for(
                lambda: here.run("sinfo", "-h", "-o", "%D %t", check=False).count("2 idle") > 0,
                "two idle nodes",
            )
            yield here
        finally:
            process.kill()
