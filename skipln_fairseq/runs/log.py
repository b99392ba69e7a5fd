"""The log of fairseq-train with ``--log-format json``."""

import json
import re
from pathlib import Path

__all__ = ["read_log", "record"]


def record(line: str) -> dict[str, float] | None:
    """A record with numbers for its values, or None if ``line`` is none."""
    found = re.search(r"\| (train_inner|valid) \| (\{.*\})", line)
    if not found:
        return None
    numbers = {}
    for key, value in json.loads(found[2]).items():
        try:
            numbers[key] = float(value)
        except ValueError:
            continue
    return numbers


def read_log(log: Path) -> list[dict[str, float]]:
    """All records of a training log, that of a resumed training too, in order of updates, each once.

    A record of the training has "num_updates", "nll_loss" (base 2), …; one of a validation
    "valid_num_updates", "valid_nll_loss", ….
    """
    records = {}
    for line in log.read_text("utf-8", errors="replace").splitlines():
        if found := record(line):
            updates = found.get("valid_num_updates", found.get("num_updates", 0))
            records[updates, "valid_num_updates" in found] = found  # a repeated update: the later counts
    return [records[key] for key in sorted(records)]
