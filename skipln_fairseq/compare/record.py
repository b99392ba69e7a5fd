"""What a run leaves for the report: JSON of a training and of an evaluation, and CSV of its examples."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError

__all__ = ["read_record", "read_statistics"]


def read_record(record: Path) -> dict[str, Any]:
    """A record in JSON.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(record.read_text("utf-8"))
    except ValueError as error:
        raise _damaged(record) from error


def read_statistics(record: Path) -> np.ndarray:
    """The numbers of each example, (examples, numbers).

    Raises:
        UserError: it is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, which is refused below
            found = np.loadtxt(record, delimiter=",", ndmin=2)
    except ValueError as error:
        raise _damaged(record) from error
    if not found.size:
        raise _damaged(record)
    return found


def _damaged(record: Path) -> UserError:
    return UserError(f"{record} is damaged: copy it again, or remove it to have it made again")
