"""Commands that go on where they were interrupted."""

import signal
import sys
from collections.abc import Callable

from ..common.errors import print_user_errors_in_one_line

__all__ = ["run_resumable"]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_resumable(main: Callable[[], None]) -> None:
    """Run a command's ``main``: what the user can put right ends it in one line, and an interruption, from outside too,
    in another.
    """
    print_user_errors_in_one_line()
    signal.signal(signal.SIGTERM, _interrupt)
    # with it Slurm tells all processes of a job: a training saves and ends, and what waits for it must outlive that;
    # a launcher between them inherits this
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; started again, it goes on")
