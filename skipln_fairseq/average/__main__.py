"""Average checkpoints, for instance the last five epochs'.

    python -m skipln_fairseq.average --inputs DIR --num-epoch-checkpoints 5 --output FILE

The mean of a run's last checkpoints often translates better than each of them (Vaswani et al., 2017,
section 6.1). fairseq's own script for it is in no package on PyPI, and does not load safely.
"""

import argparse
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from ..common.errors import UserError
from ..common.files import check_file, whole
from .mean import average

__all__ = ["main"]

EPOCH = re.compile(r"checkpoint(\d+)\.pt")
UPDATE = re.compile(r"checkpoint_\d+_(\d+)\.pt")
LIKE = {EPOCH: "checkpoint7.pt", UPDATE: "checkpoint_7_4200.pt"}


def _newest(folder: Path, pattern: re.Pattern, count: int, bound: int | None) -> list[Path]:
    """The *count* checkpoints with the highest numbers up to *bound*, the highest last."""
    numbered = [(int(m[1]), file) for file in folder.iterdir() if (m := pattern.fullmatch(file.name))]
    numbered = sorted(one for one in numbered if bound is None or one[0] <= bound)
    if not 0 < count <= len(numbered):
        raise UserError(
            f"{count} checkpoints asked for, but {folder} has {len(numbered)} named like {LIKE[pattern]}"
        )
    for (number, file), (next_number, next_file) in itertools.pairwise(numbered[-count - 1 :]):
        if number == next_number:  # of two trainings
            raise UserError(f"{file} and {next_file} have one number: name the checkpoints as --inputs")
    return [file for _, file in numbered[-count:]]


def _inputs(args: argparse.Namespace) -> list[Path]:
    """The files to average, all of them there."""
    by_epoch = args.num_epoch_checkpoints is not None
    count = args.num_epoch_checkpoints if by_epoch else args.num_update_checkpoints
    if count is None:
        if args.checkpoint_upper_bound is not None:
            raise UserError(
                "--checkpoint-upper-bound needs --num-epoch-checkpoints or --num-update-checkpoints"
            )
        files = args.inputs
    elif len(args.inputs) == 1 and args.inputs[0].is_dir():
        pattern = EPOCH if by_epoch else UPDATE
        files = _newest(args.inputs[0], pattern, count, args.checkpoint_upper_bound)
    else:
        raise UserError("--num-epoch-checkpoints and --num-update-checkpoints need one folder as --inputs")
    for file in files:
        if file.is_dir():
            raise UserError(f"{file} is a folder: say how many of its checkpoints, --num-epoch-checkpoints N")
        if not file.is_file():
            raise UserError(f"{file} does not exist")
    return files


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.average", description="Average the parameters of checkpoints."
    )
    parser.add_argument(
        "--inputs", nargs="+", type=Path, required=True, help="checkpoints, or one folder of them"
    )
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--num-epoch-checkpoints", type=int, metavar="N", help="the folder's last N checkpoint*.pt"
    )
    which.add_argument("--num-update-checkpoints", type=int, metavar="N", help="its last N checkpoint_*_*.pt")
    parser.add_argument(
        "--checkpoint-upper-bound", type=int, metavar="N", help="leave out epochs, or updates, after this one"
    )
    args = parser.parse_args(argv)
    files = _inputs(args)
    if args.output.exists() and any(args.output.samefile(file) for file in files):
        raise UserError(f"--output {args.output} is also an input, and would be lost")
    check_file("--output", args.output)
    if not args.output.parent.is_dir():
        raise UserError(f"--output {args.output}: no such folder")
    state = average(files)
    with whole(args.output) as beside, beside.open("wb") as file:
        torch.save(state, file)
    print(f"{args.output}: the mean of {', '.join(str(file) for file in files)}")


if __name__ == "__main__":
    main()
