"""The one exception that a user is meant to read, and how a command prints it."""

import sys
from types import TracebackType

__all__ = ["UserError", "print_user_errors_in_one_line"]


class UserError(Exception):
    """Something the user can put right: a flag, a file, a checkpoint.

    The message is one line that says what is wrong and what is valid. It is deliberately not a
    ``ValueError``: argparse would catch that and bury it under fairseq's pages of usage.
    """


def print_user_errors_in_one_line() -> None:
    """Make an uncaught :class:`UserError` end a command with its one line and exit status 1.

    Every other exception keeps the hook that was there before, traceback included. From Python
    (notebooks, ``from_pretrained``) a ``UserError`` stays an ordinary exception.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, UserError):
            # from a process that loads data the message comes with that process's traceback before it
            message = str(error).rpartition(f"{UserError.__name__}: ")[2].strip()
            print(f"skipln_fairseq: error: {message}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    sys.excepthook = hook
