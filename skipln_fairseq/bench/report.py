"""What was measured, as JSON: raw seconds of every round, and the medians, spreads and ratios that follow."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..common.files import write_text
from ..runs.machine import where
from .render import LAYOUTS
from .statistics import quartiles, ratio

__all__ = ["new", "read", "summarise", "write"]

LEFT_OUT = {
    *("command", "axis", "counts", "output", "data", "path", "shapes", "contestants", "values"),
    *("batch_sizes", "beams"),
}
"""Flags that are in the command, or in the results, and no numbers of settings."""


def new(args: Namespace, kind: str, axis: str | None = None) -> dict[str, Any]:
    """A report without results.

    Args:
        args: the command's flags.
        kind: which of the layouts of :mod:`.render` it has.
        axis: what grows, None where nothing does.
    """
    data = getattr(args, "data", None)
    return {
        "kind": kind,
        "command": " ".join(("python -m skipln_fairseq.bench", *sys.argv[1:])),
        "axis": axis,
        "settings": {name: value for name, value in vars(args).items() if name not in LEFT_OUT},
        "lengths": "equal" if axis == "length" else f"of {'Multi30k en-de' if data is None else data.name}",
        "where": where(args.device),
        "heats": [],
    }


def _bytes(run: dict[str, Any]) -> int:
    return run["bytes"]["state"] + run["bytes"]["step"]


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of a heat with their ``summary``; ratios are to the first run, paired by round.

    ``seconds`` are a round's, with quartiles; ``tokens_per_second`` and ``sentences_per_second`` count real target
    tokens and sentences, at the median round; ``time_ratio`` and ``cpu_ratio`` come with the interval of
    :func:`.statistics.interval`; ``peak_bytes`` are those that stay and those that a step adds.
    """
    first = runs[0]
    return [
        run
        | {
            "summary": {
                "seconds": quartiles(run["seconds"]),
                "tokens_per_second": run["tokens"] / quartiles(run["seconds"]).middle,
                "sentences_per_second": run["sentences"] / quartiles(run["seconds"]).middle,
                "time_ratio": ratio(run["seconds"], first["seconds"]),
                "cpu_ratio": ratio(run["cpu_seconds"], first["cpu_seconds"]),
                "peak_bytes": _bytes(run),
                "peak_ratio": _bytes(run) / _bytes(first),
            }
        }
        for run in runs
    ]


def write(report: dict[str, Any], file: Path) -> None:
    """Write the whole report or nothing."""
    text = json.dumps(report, indent=1) + "\n"
    write_text(file, text)


def read(file: Path) -> dict[str, Any]:
    """A report.

    Raises:
        UserError: where the file is none.
    """
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if report["kind"] in LAYOUTS and report["heats"]:
            return report
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):  # no JSON, or another
        pass
    raise UserError(f"{file}: not a report of this benchmark")
