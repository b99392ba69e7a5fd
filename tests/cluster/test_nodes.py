"""The nodes themselves."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import REPOSITORY

pytestmark = pytest.mark.slow

MAKE_AND_WAIT = """
import sys, time
from pathlib import Path
from tests.support.nodes import two_nodes

folder = Path(sys.argv[1])
with two_nodes(folder) as nodes:
    nodes[0].start(folder / "log", ["sleep", "500"])
    print(*(node.init for node in nodes), flush=True)
    time.sleep(500)
"""


@pytest.mark.usefixtures("_can_be")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_they_vanish_with_who_made_them(end, tmp_path):
    """Processes, and with them their network: nothing is left to be cleaned up by hand."""
    line = [sys.executable, "-c", MAKE_AND_WAIT, tmp_path]
    with subprocess.Popen(
        line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as maker:
        held = [Path("/proc", number) for number in maker.stdout.readline().split()]
        assert len(held) == 2
        assert all(process.exists() for process in held)
        maker.send_signal(end)
        maker.wait(20)
    until = time.monotonic() + 20
    while any(process.exists() for process in held):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_pulled_cable_carries_nothing(nodes, tmp_path):
    code = "import socket; socket.create_connection(('node0', 7), timeout=2)"

    def knock(name):
        running = nodes[1].start(tmp_path / name, [sys.executable, "-c", code])
        running.wait(20)
        return running.output.splitlines()[-1]

    assert "refused" in knock("in")  # the node answers, nobody listens there
    nodes[0].cable("down")
    assert "refused" not in knock("out")
    nodes[0].cable("up")
    assert "refused" in knock("in again")
