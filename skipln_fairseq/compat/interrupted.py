"""A training that was killed goes on from the newest whole checkpoint, and what it had half written is removed.

Without it a damaged ``checkpoint_last.pt`` stops every further start, and where the kill came between the checkpoint of
an epoch, or of some updates, and its copy to ``checkpoint_last.pt``, training silently goes on from the last but one,
or begins anew.
"""

import logging
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils

from skipln_fairseq.compat.checkpoints import explain_refusal
from skipln_fairseq.compat.patch import around
from skipln_fairseq.errors import UserError
from skipln_fairseq.files import is_partial, remove, whole

__all__ = ["apply", "is_whole", "newer", "remove_leftovers"]

LAST = "checkpoint_last.pt"
NAMES = r"checkpoint(?:\d+|_\d+_\d+|_best|_last|\.best_.+)"  # fairseq's own, without what an average may be called
PICKLE = b"\x80"  # how a checkpoint of torch < 1.6 begins, which is no zip file

logger = logging.getLogger(__name__)


def apply() -> None:
    """Look into ``--save-dir`` before ``fairseq-train`` does, which calls ``checkpoint_utils.load_checkpoint`` once.

    One process of a run does it, and the others wait. Sharded checkpoints, of which each process has its own, are
    left as they are. So is another ``--restore-file``: it is what the user wants.
    """

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        folder, suffix = Path(cfg.save_dir), trainer.checkpoint_suffix
        if not cfg.no_save and folder.is_dir() and trainer.should_save_checkpoint_on_current_rank:
            remove_leftovers(folder, suffix)
            if cfg.restore_file == LAST and not suffix:
                go_on_from_the_newest(folder, but=cfg.finetune_from_model)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        return stock(cfg, trainer, **kwargs)


def remove_leftovers(folder: Path, suffix: str = "") -> None:
    """Remove what was to become a checkpoint: of this package's writing, and of fairseq's own."""
    name = f"{NAMES}{re.escape(suffix)}\\.pt"
    for file in folder.iterdir():
        if is_partial(file, name) or re.fullmatch(rf"{name}\.tmp", file.name):
            remove(file)


def go_on_from_the_newest(folder: Path, but: str | None = None) -> None:
    """Put the newest whole checkpoint in the place of the last one, if that is damaged, missing or older, and say so.

    Args:
        folder: of the checkpoints.
        but: is not to go on from: what a run begins with, which may lie in the same folder.
    """
    last = folder / LAST
    found = newer(last, [Path(but)] if but else [])
    if found is None:
        return  # a damaged one is refused when it is loaded
    state = "older" if last.exists() and is_whole(last) else "damaged" if last.exists() else "missing"
    with whole(last) as beside:
        shutil.copyfile(found, beside)
    logger.warning(
        f"{last} was {state}, as a kill leaves it: going on from {found.name}, the newest whole checkpoint"
    )


def newer(last: Path, but: list[Path]) -> Path | None:
    """The whole checkpoint beside ``last`` of most updates, if they are more than those of ``last``.

    Where ``last`` is whole, only what was written after it can be from a save that was interrupted: who has put an
    older checkpoint in its place wants to go on from that.
    """
    intact = last.exists() and is_whole(last)
    updates = _updates(last) if intact else -1
    if intact and updates < 0:
        return None  # what is refused for something else than damage stays where it is
    others = []
    for file in last.parent.iterdir():
        if not re.fullmatch(rf"{NAMES}\.pt", file.name) or file.name == last.name:
            continue
        if any(os.path.realpath(file) == os.path.realpath(each) for each in but):
            continue
        if not intact or file.stat().st_mtime_ns > last.stat().st_mtime_ns:
            others.append((_updates(file), file))
    ahead = sorted((each for each in others if each[0] > updates), reverse=True)
    return next((file for _, file in ahead if is_whole(file)), None)


def is_whole(file: Path) -> bool:
    """Whether the file ends where it should and holds what was written, which ``torch.load`` does not look at."""
    try:
        with zipfile.ZipFile(file) as content:
            return content.testzip() is None
    except zipfile.BadZipFile:
        with file.open("rb") as stream:
            return stream.read(1) == PICKLE
    except (OSError, EOFError, NotImplementedError):
        return False


def _updates(file: Path) -> int:
    """How many updates it was saved after, read without its tensors; -1 for a damaged one."""
    try:
        with explain_refusal(str(file)):
            zipped = zipfile.is_zipfile(file)
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
            return state["optimizer_history"][-1]["num_updates"]
    except (UserError, OSError):
        return -1
