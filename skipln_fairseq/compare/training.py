"""One training: where it lies, the command that makes it, and what came of it."""

import hashlib
import json
import math
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..common.files import write_json
from ..runs import CommandFailed, read_log, run
from ..runs.built import check_training
from ..runs.machine import where
from ..runs.settings import Flags, words
from .data import Data, file_name
from .record import read_record

__all__ = ["Training", "ran"]

ENDED = "trained.json"
LOG = "train.log"
NOT_FINITE = "FloatingPointError"
UPDATES = ("num_updates", "train_num_updates", "valid_num_updates")


@dataclass(frozen=True)
class Training:
    """A model of ``variant`` on ``data`` with ``seed``, in a folder named after all that shapes it."""

    work_dir: Path
    user_dir: str
    data: Data
    variant: str
    seed: int
    flags: Flags

    @property
    def folder(self) -> Path:
        """Where checkpoints and logs lie."""
        shape = json.dumps([words(self.flags), self.seed, self.data.content])
        name = f"seed-{self.seed}-{hashlib.sha256(shape.encode()).hexdigest()[:8]}"
        return self.work_dir / "runs" / file_name(self.data.name) / file_name(self.variant) / name

    @property
    def command(self) -> list[str]:
        """Of fairseq-train."""
        return [
            *("fairseq-train", str(self.data.path), "--user-dir", self.user_dir),
            *words(self.flags),
            *("--seed", str(self.seed), "--log-format", "json", "--save-dir", str(self.folder)),
        ]

    @property
    def checkpoint(self) -> Path:
        """The best one on the validation set."""
        return self.folder / "checkpoint_best.pt"

    @property
    def begun(self) -> bool:
        """Whether it goes on from a checkpoint where an interruption came."""
        return (self.folder / "checkpoint_last.pt").is_file()

    def result(self) -> dict[str, Any] | None:
        """How it ended, or None if it has not: see :meth:`train`."""
        ended, log = self.folder / ENDED, self.folder / LOG
        if not ended.is_file():
            return None
        result = read_record(ended)
        if "curve" not in result:  # written before the record held all that a report shows
            result |= _losses(read_log(log) if log.is_file() else [])
        return result

    def train(
        self,
        environment: Mapping[str, str],
        on_start: Callable[[subprocess.Popen], None],
        keep_open: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        """Train, or go on where an interruption came. Gives, and keeps, a record, all that a report says of it:

        * ``diverged``: the training ended itself at gradients that are not finite,
        * ``best_loss``: the lowest validation loss, in bits; None if there was none that is finite,
        * ``curve``: pairs of updates and validation loss in bits, where that is finite,
        * ``train_loss``: mean loss of the last epoch's training, in bits; None if it is not known,
        * ``checkpoint``: whether there was a best one,
        * ``updates``, ``parameters``, ``tokens_per_second`` (median), ``seconds``, ``cpu_seconds``,
          ``peak_bytes`` (of the process), ``gpu_peak_gib``; times of the last start alone,
        * ``command`` and ``where``: processor and versions.

        Args:
            environment: variables of the training beside the present ones.
            on_start: gets the process.
            keep_open: file descriptors that it inherits: of a lock.

        Raises:
            CommandFailed: the training failed otherwise.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / LOG
        diverged, usage = False, None

        def on_line(line: str) -> None:
            nonlocal diverged
            # fairseq then looks for the module that did it, and may fail in that
            diverged = diverged or line.startswith(NOT_FINITE)

        try:
            usage = run(
                self.command,
                log,
                on_line,
                environment=environment,
                keep_open=keep_open,
                on_start=on_start,
            )
        except CommandFailed:
            if not diverged:
                raise
        result = {"diverged": diverged, **_summary(log), **(asdict(usage) if usage else {})}
        result["checkpoint"] = self.checkpoint.is_file()
        result |= ran(self.command, self.flags)
        write_json(self.folder / ENDED, result)
        return result

    def check(self, name: str) -> None:
        """Build the model, to learn whether the training would begin.

        Raises:
            UserError: it would not; begins with ``name``.
        """
        check_training(name, self.command[1:])

    def still_falling(self) -> bool:
        """Whether the lowest validation loss is the last one: a longer training may reach a lower one."""
        losses = [loss for _, loss in self.curve()]
        return len(losses) > 1 and losses[-1] < min(losses[:-1])

    def curve(self) -> list[tuple[int, float]]:
        """Validation loss in bits over updates, where it is finite; of a training that has ended."""
        return [(updates, loss) for updates, loss in self.result()["curve"]]


def ran(command: Sequence[str], flags: Flags) -> dict[str, Any]:
    """Of a record: the command and where it ran."""
    device = "cuda" if torch.cuda.is_available() and not flags.get("cpu") else "cpu"
    return {"command": shlex.join(command), "where": where(device)}


def _summary(log: Path) -> dict[str, Any]:
    records = read_log(log)
    text = log.read_text("utf-8", errors="replace")
    speeds = sorted(r["wps"] for r in records if "wps" in r)
    free = [r["gb_free"] for r in records if "gb_free" in r]
    memory = re.search(r"total memory = ([\d.]+) GB", text)
    parameters = re.search(r"num\. (?:shared )?model params: ([\d,]+)", text)
    losses = _losses(records)
    return {
        "best_loss": min((loss for _, loss in losses["curve"]), default=None),
        "updates": int(max((r[name] for r in records for name in UPDATES if name in r), default=0)),
        "parameters": int(parameters[1].replace(",", "")) if parameters else None,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "gpu_peak_gib": round(float(memory[1]) - min(free), 3) if memory and free else None,
        **losses,
    }


def _losses(records: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    finite = [r for r in records if math.isfinite(r.get("valid_loss", math.nan))]
    of_epochs = [r["train_loss"] for r in records if math.isfinite(r.get("train_loss", math.nan))]
    return {
        "curve": [(int(r["valid_num_updates"]), r["valid_loss"]) for r in finite],
        "train_loss": of_epochs[-1] if of_epochs else None,
    }
