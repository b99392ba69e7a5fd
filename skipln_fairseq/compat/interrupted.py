"""A training that was killed goes on from the newest whole checkpoint, and what it had half written is removed.

Without it a damaged ``checkpoint_last.pt`` stops every further start, and where the kill came between the checkpoint of
an epoch, or of some updates, and its copy to ``checkpoint_last.pt``, training silently goes on from the last but one,
or begins anew.
"""

import logging
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.files import is_partial, remove, whole
from skipln_fairseq.compat.checkpoints import explain_refusal
from skipln_fairseq.compat.patch import around
from skipln_fairseq.compat.restore_file import LAST

__all__ = ["apply", "go_on_from_the_newest", "is_whole", "newest", "remove_leftovers"]

NAMES = r"checkpoint(?:\d+|_\d+_\d+|_best|_last|\.best_.+)"  # fairseq's own, without what an average may be called
PICKLE = b"\x80"  # how a checkpoint of torch < 1.6 begins, which is no zip file

# What zipfile raises on one whose bytes were changed.
UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Save:
    """A checkpoint: after how many updates it was saved, and whether as the best one so far."""

    updates: int
    file: Path
    is_best: bool


def apply() -> None:
    """Look into ``--save-dir`` before ``fairseq-train`` does, which calls ``checkpoint_utils.load_checkpoint`` once.

    One process of a run does it, and the others wait. Sharded checkpoints, of which each process has its own, are
    left as they are. So are all with another ``--restore-file`` or ``--no-last-checkpoints``: the user wants that.
    """

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        # any other trainer, as in fairseq's own tests, has nothing in a folder
        if (
            isinstance(trainer, Trainer)
            and trainer.should_save_checkpoint_on_current_rank
            and not cfg.no_save
        ):
            _look_into(cfg, trainer.checkpoint_suffix)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        return stock(cfg, trainer, **kwargs)


def _look_into(cfg: Any, suffix: str) -> None:
    folder = Path(cfg.save_dir)
    if folder.is_dir():
        remove_leftovers(folder, suffix)
        if cfg.restore_file == LAST and not suffix and not cfg.no_last_checkpoints:
            go_on_from_the_newest(folder, but=cfg.finetune_from_model)


def remove_leftovers(folder: Path, suffix: str = "") -> None:
    """Remove what was to become a checkpoint: of this package's writing, and of fairseq's own."""
    name = f"{NAMES}{re.escape(suffix)}\\.pt"
    for file in folder.iterdir():
        if is_partial(file, name) or re.fullmatch(rf"{name}\.tmp", file.name):
            remove(file)


def go_on_from_the_newest(folder: Path, but: str | None = None) -> None:
    """Put the newest whole checkpoint in the place of the last one, if that is damaged, missing or older, and say so.

    If it is the best one so far, and its save was cut off before the copy that says so, that copy is made too.

    Args:
        folder: of the checkpoints.
        but: is not to go on from: what a run begins with, which may lie in the same folder.
    """
    last, best = folder / LAST, folder / "checkpoint_best.pt"
    names = re.compile(rf"{NAMES}\.pt")
    others = [file for file in folder.iterdir() if names.fullmatch(file.name) and file != last]
    if but:
        others = [file for file in others if os.path.realpath(file) != os.path.realpath(but)]
    state, save = newest(last, others)
    if save is None:
        return  # a damaged one is refused when it is loaded
    if save.is_best and save.file != best and not _updates(best) >= save.updates:
        _copy(save.file, best)
    _copy(save.file, last)
    logger.warning(
        f"{last} was {state}, as a kill leaves it: going on from {save.file.name}, the newest whole checkpoint"
    )


def newest(last: Path, others: Iterable[Path]) -> tuple[str, Save | None]:
    """What is wrong with ``last``, and what of ``others`` to go on from, if there is something.

    * It is missing: all others are of one save, the first, which was cut off before its copy. If they are of more, who
      took it away wants to begin anew.
    * It is damaged.
    * It is older: only what was written after it can be of a save that was cut off before its copy. Who has put an
      older checkpoint in its place wants to go on from that.
    """
    if not last.exists():
        saves = _newest_first(others)
        return "missing", _first_whole(saves) if len({save.updates for save in saves}) == 1 else None
    if not is_whole(last):
        return "damaged", _first_whole(_newest_first(others))
    now, written = read(last), last.stat().st_mtime_ns
    if now is None:
        return "refused for something else than damage", None
    later = _newest_first(file for file in others if file.stat().st_mtime_ns > written)
    return "older", _first_whole([save for save in later if save.updates > now.updates])


def is_whole(file: Path) -> bool:
    """Whether the file ends where it should and holds what was written, which ``torch.load`` does not look at.

    Raises:
        PermissionError: it may not be read.
    """
    try:
        with zipfile.ZipFile(file) as content:
            return content.testzip() is None
    except PermissionError:
        raise
    except zipfile.BadZipFile:
        with file.open("rb") as stream:
            return stream.read(1) == PICKLE
    except UNREADABLE:
        return False


def read(file: Path) -> Save | None:
    """What a checkpoint was saved as, read without its tensors; None if that cannot be."""
    try:
        with explain_refusal(str(file)):
            zipped = zipfile.is_zipfile(file)
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
            updates = int(state["optimizer_history"][-1]["num_updates"])
            scores = state.get("extra_state") or {}
            return Save(updates, file, scores.get("val_loss") == scores.get("best", ()))
    except (UserError, OSError):
        return None


def _updates(file: Path) -> int:
    save = read(file)
    return save.updates if save else -1


def _newest_first(files: Iterable[Path]) -> list[Save]:
    saves = [save for file in files if (save := read(file))]
    return sorted(saves, key=lambda save: (save.updates, save.file), reverse=True)


def _first_whole(saves: Iterable[Save]) -> Save | None:
    return next((save for save in saves if is_whole(save.file)), None)


def _copy(found: Path, place: Path) -> None:
    with whole(place) as beside:
        shutil.copyfile(found, beside)
