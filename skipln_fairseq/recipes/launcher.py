"""torchrun, which may outlive its workers."""

import subprocess
from threading import Timer

from ..common.lost import LOST

__all__ = ["Launcher"]

GRACE = 30  # seconds; torchrun takes two to end


class Launcher:
    """End a launcher that does not end after its workers have lost another one.

    Where the node with the rendezvous is unreachable, torchrun waits for it until Linux gives the connection up: a
    quarter of an hour. It waits where no signal but SIGKILL is heard, and its workers have ended by then.
    """

    def started(self, process: subprocess.Popen) -> None:
        """This is the launcher."""
        self.process = process

    def heard(self, line: str) -> None:
        """It, or one of its workers, has said that."""
        if LOST in line:
            timer = Timer(GRACE, self.process.kill)
            timer.daemon = True
            timer.start()
