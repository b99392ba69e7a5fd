"""Average checkpoints, for instance the last five epochs'.

    python -m skipln_fairseq.average --inputs DIR --num-epoch-checkpoints 5 --output FILE

The mean of a run's last checkpoints often translates better than each of them (Vaswani et al., 2017,
section 6.1). fairseq's own script for it is in no package on PyPI, and does not load safely.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq.models import ARCH_MODEL_REGISTRY

from .compat.checkpoints import read_checkpoint
from .errors import UserError
from .files import whole

__all__ = ["average", "main"]

EPOCH = re.compile(r"checkpoint(\d+)\.pt")
UPDATE = re.compile(r"checkpoint_\d+_(\d+)\.pt")

# Flags of a model that say how it is trained, not what its parameters mean.
TRAINING = re.compile(
    r".*(dropout|layerdrop|_activations|_path)|quant_noise_.*|min_params_to_wrap|probe_interval"
)


def average(files: Sequence[Path]) -> dict[str, Any]:
    """The last file's state with the mean of all files' parameters, and without an optimiser's state.

    Sums are float64, and half-precision parameters come out as float32, so that nothing is rounded away.
    Integers, such as counters, have no mean worth having, nor have draws of random features: the last file's are kept.
    """
    first = state = read_checkpoint(files[0])
    sums = {
        name: value.double()
        for name, value in state["model"].items()
        if value.is_floating_point() and not name.endswith(".favor.features.projection")
    }
    kind, shapes = _model_flags(first), _shapes(first)
    for file in files[1:]:
        state = read_checkpoint(file)
        if other := _difference(kind, _model_flags(state)) or _difference(shapes, _shapes(state)):
            raise UserError(f"{files[0]} and {file} hold different models: {other}")
        sums = {name: total + state["model"][name] for name, total in sums.items()}
    for name, total in sums.items():
        precision = torch.promote_types(state["model"][name].dtype, torch.float32)
        state["model"][name] = (total / len(files)).to(precision)
    state.pop("last_optimizer_state", None)
    return state


def _shapes(state: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value.shape) for name, value in state["model"].items()}


def _model_flags(state: dict[str, Any]) -> dict[str, Any]:
    """The flags that give the parameters their meaning, for instance the number of heads."""
    flags = state.get("args") or (state.get("cfg") or {}).get("model") or {}
    flags = flags if isinstance(flags, dict) else vars(flags)
    arch = flags.get("arch") or flags.get("_name")
    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    if arch in ARCH_MODEL_REGISTRY:
        ARCH_MODEL_REGISTRY[arch].add_args(parser)
    names = (action.dest for action in parser._actions if not TRAINING.fullmatch(action.dest))
    return {"arch": arch} | {name: flags.get(name) for name in names}


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The first name whose values differ, and both values; empty if all are equal."""
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            return f"{name} is {ours.get(name)} in one and {theirs.get(name)} in the other"
    return ""


def _newest(folder: Path, pattern: re.Pattern, count: int, bound: int | None) -> list[Path]:
    """The *count* checkpoints with the highest numbers up to *bound*, the highest last."""
    numbered = {int(m[1]): file for file in folder.iterdir() if (m := pattern.fullmatch(file.name))}
    numbers = sorted(n for n in numbered if bound is None or n <= bound)
    if not 0 < count <= len(numbers):
        raise UserError(
            f"{count} checkpoints asked for, but {folder} has {len(numbers)} named {pattern.pattern}"
        )
    return [numbered[n] for n in numbers[-count:]]


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
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder: name a file in it")
    if not args.output.parent.is_dir():
        raise UserError(f"--output {args.output}: no such folder")
    state = average(files)
    with whole(args.output) as beside, beside.open("wb") as file:
        torch.save(state, file)
    print(f"{args.output}: the mean of {', '.join(str(file) for file in files)}")


if __name__ == "__main__":
    main()
