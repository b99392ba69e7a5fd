"""Processes that are killed while they write."""

import os
import signal

__all__ = ["COPY_HALF_AND_DIE", "killed_in"]

# Code that ends its process in the midst of one copy of fairseq's: the one that would be the n-th.
COPY_HALF_AND_DIE = """
import os, shutil, signal

whole_copy, copies = shutil.copyfile, []

def copyfile(source, place):
    copies.append(place)
    if len(copies) < {n}:
        return whole_copy(source, place)
    with open(source, "rb") as from_, open(place, "wb") as to:
        to.write(from_.read(os.path.getsize(source) * {part} // 100))
    os.kill(os.getpid(), signal.SIGKILL)

shutil.copyfile = copyfile
"""


def killed_in(action) -> None:
    """Run it in a fork of this process, where it must not come to its end."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
