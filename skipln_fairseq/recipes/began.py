"""What the training in a folder began with: it goes on with nothing else, and is evaluated on nothing else."""

import json
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..common.files import write_json
from ..runs.settings import Flags, words

__all__ = ["check_data", "go_on"]

SETTINGS = "settings.json"
# what may change on the way: the devices, how long it trains, and what is written
FREE = frozenset(
    (
        *("cpu", "fp16", "bf16", "num-workers", "ddp-backend", "heartbeat-timeout"),
        *("max-update", "max-epoch", "patience"),
        *("log-interval", "log-file", "tensorboard-logdir", "wandb-project", "no-progress-bar"),
        *("validate-interval", "validate-interval-updates", "save-interval", "save-interval-updates"),
        *("keep-interval-updates", "keep-last-epochs", "no-epoch-checkpoints"),
    )
)


def go_on(save_dir: Path, work_dir: Path, flags: Flags) -> None:
    """Let a training begin in ``save_dir``, or go on there as it began.

    Args:
        save_dir: of its checkpoints.
        work_dir: of the data.
        flags: of fairseq-train, without what the devices decide.

    Raises:
        UserError: it began with other flags or data.
    """
    shaping = {name: value for name, value in flags.items() if name not in FREE}
    here = {
        "data": _data(work_dir),
        "flags": sorted(" ".join(words({name: _number(shaping[name])})) for name in shaping),
    }
    nothing_made = not any(
        save_dir.glob("checkpoint*.pt")
    )  # it failed before its first checkpoint, or never began
    if nothing_made or not (save_dir / SETTINGS).is_file():
        write_json(save_dir / SETTINGS, here)
        return
    before = _began(save_dir)
    changed = [
        f"{when} {', '.join(flags)}"
        for when, flags in (
            ("then", sorted(set(before["flags"]) - set(here["flags"]))),
            ("now", sorted(set(here["flags"]) - set(before["flags"]))),
        )
        if flags
    ]
    changed += ["with other data"] if before["data"] != here["data"] else []
    if changed:
        raise UserError(
            f"{save_dir} was begun otherwise ({'; '.join(changed)}): give another --work-dir or --seed, or remove it"
        )


def _number(value: Any) -> Any:
    """One of the ways in which a number may be written: 5e-4 is 0.0005."""
    try:
        number = float(str(value))  # which True is none of
    except ValueError:
        return value
    return int(number) if number.is_integer() else number


def check_data(save_dir: Path, work_dir: Path) -> None:
    """Refuse to evaluate a model on data that were prepared anew since: its dictionary may be another one.

    Raises:
        UserError: they were.
    """
    if _began(save_dir)["data"] != _data(work_dir):
        raise UserError(
            f"{save_dir} was trained on other data than {work_dir / 'binary'} is now: train again"
        )


def _began(save_dir: Path) -> dict[str, Any]:
    file = save_dir / SETTINGS
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: remove {save_dir} and train again") from error


def _data(work_dir: Path) -> str:
    """The folder that the link leads to, whose name has a fingerprint of all that shaped it."""
    return (work_dir / "binary").resolve().parent.name
