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
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; started again, it goes on")
