"""The log of fairseq-train with ``--log-format json``."""

import json
import re
from pathlib import Path

__all__ = ["progress", "read_log", "record"]

UPDATES = ("num_updates", "valid_num_updates", "train_num_updates")
"""What the kinds of records call the number of updates: within an epoch, of a validation, of an epoch's training."""


def record(line: str) -> dict[str, float] | None:
    """A record with numbers for its values, or None if ``line`` is none."""
    return _numbers(line, "train_inner|valid|train")


def progress(line: str) -> tuple[int, float | None] | None:
    """How many updates were made, and the loss (base 2), or None where a line does not tell.

    Records within an epoch tell both. So does the one of an epoch, which is the only one of a short training.
    """
    found = _numbers(line, "train_inner|train") or {}
    updates = found.get("num_updates", found.get("train_num_updates"))
    return None if updates is None else (int(updates), found.get("loss", found.get("train_loss")))


def _numbers(line: str, kinds: str) -> dict[str, float] | None:
    found = re.search(rf"\| (?:{kinds}) \| (\{{.*\}})", line)
    if not found:
        return None
    try:
        values = json.loads(found[1])
    except ValueError:  # a killed process, or a full disk, left a part of the line
        return None
    numbers = {}
    for key, value in values.items():
        try:
            numbers[key] = float(value)
        except ValueError:
            continue
    return numbers


def read_log(log: Path) -> list[dict[str, float]]:
    """All records of a training log, that of a resumed training too, in order of updates, each once.

    A record within an epoch has "num_updates", "nll_loss" (base 2), …; one of a validation "valid_num_updates",
    "valid_nll_loss", …; one of an epoch "train_num_updates", "train_nll_loss", ….
    """
    records = {}
    for line in log.read_text("utf-8", errors="replace").splitlines():
        if found := record(line):
            kind = next((name for name in UPDATES if name in found), UPDATES[0])
            # a repeated update: the later counts
            records[found.get(kind, 0), UPDATES.index(kind)] = found
    return [records[key] for key in sorted(records)]
