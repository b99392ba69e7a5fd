"""torch ≥ 2.6 unpickles nothing but tensors unless it is told what is harmless: tell it, and no more.

What one process of a run has read and hands on to the others is no file, and is taken as it is.
"""

import contextlib
import functools
import pickle
import re
import struct
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils

from skipln_fairseq.compat.patch import around
from skipln_fairseq.errors import UserError

__all__ = ["apply", "explain_refusal"]

RECONSTRUCT = np.zeros(0).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]

HARMLESS = [
    Namespace,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.int64, np.float64)),
    # numpy 2 moved these two; a checkpoint names them as the numpy that wrote it did.
    *((RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]

# What torch and fairseq raise on a file that is cut short, or that something else than fairseq wrote.
UNREADABLE = (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, struct.error)


def apply() -> None:
    """Let the harmless types in, and refuse everything else in one line.

    fairseq's commands, its trainer and its hub all go through ``checkpoint_utils.load_checkpoint_to_cpu``.
    """
    torch.serialization.add_safe_globals(HARMLESS)

    @around(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(stock, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        with explain_refusal(path):
            return stock(path, *args, **kwargs)

    @around(distributed_utils, "_broadcast_object_slow")
    def broadcast_object(stock, *args: Any, **kwargs: Any) -> Any:
        # what another process of this run has read, with the check above, and hands on to resume from
        load = torch.load
        torch.load = functools.partial(load, weights_only=False)
        try:
            return stock(*args, **kwargs)
        finally:
            torch.load = load


@contextlib.contextmanager
def explain_refusal(path: str) -> Iterator[None]:
    """Say in one line why the file *path* cannot be read as a checkpoint."""
    try:
        yield
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error))
        if forbidden:
            raise UserError(
                f"refused to load {path}: it holds a pickled {forbidden[1]}, and unpickling one could run "
                "any code; fairseq's checkpoints hold tensors, numbers, text and flags only"
            ) from error
        raise UserError(f"{path} is no checkpoint, or a damaged one") from error
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path} is no checkpoint, or a damaged one ({reason})") from error
