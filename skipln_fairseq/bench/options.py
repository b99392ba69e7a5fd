"""The flags of every command that measures, and what they mean together."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..common.files import check_folder
from ..runs.machine import check_device
from .contestants import DTYPES
from .lengths import Pairs, multi30k, of_data
from .race import Heat
from .shapes import Shape

__all__ = [
    "add_arguments",
    "add_count",
    "add_heat_arguments",
    "add_race_arguments",
    "check",
    "heat",
    "lengths",
]


def add_count(parser: ArgumentParser, name: str, default: int, text: str) -> None:
    """Add a flag whose value is a whole number of at least 1."""
    parser.add_argument(
        f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
    )
    parser.set_defaults(counts=[*(parser.get_default("counts") or ()), name])


def add_arguments(parser: ArgumentParser, output: str) -> None:
    """Add what every measurement can be told."""
    add_count(parser, "rounds", 5, "timed rounds")
    add_count(parser, "threads", 1, "of torch, in each process")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="rounds before that are not timed")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of numbers, words, batches and turns"
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu (default) or cuda")
    parser.add_argument(
        "--dtype", nargs="+", default=["fp32"], metavar="TYPE", help="fp32 (default), bf16, fp16"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(output), metavar="FILE.json", help=f"default: {output}"
    )


def add_heat_arguments(parser: ArgumentParser, output: str) -> None:
    """Add what every command that trains can be told."""
    add_arguments(parser, output)
    add_count(parser, "max-tokens", 1024, "of a batch, on each side, padding included")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="binarised data whose lengths are taken; else Multi30k's"
    )


def add_race_arguments(parser: ArgumentParser, output: str) -> None:
    """Add what ``train`` and ``grow`` can be told."""
    add_heat_arguments(parser, output)
    add_count(parser, "starts", 3, "times that all processes are started, each with its rounds")
    add_count(parser, "batches", 2, "batches; a round is a step with each")


def check(args: Namespace) -> None:
    """Refuse what nothing could be measured with, before anything is.

    Raises:
        UserError: naming the flag and what is valid.
    """
    for least, names in ((1, args.counts), (0, ("warmup", "seed"))):
        for name in names:
            value = getattr(args, name.replace("-", "_"))
            if value < least:
                raise UserError(f"--{name} {value}: valid is a whole number of at least {least}")
    for dtype in args.dtype:
        if dtype not in DTYPES:
            raise UserError(f"--dtype {dtype}: valid are {', '.join(DTYPES)}")
    if args.output.suffix != ".json" or args.output.is_dir():
        raise UserError(f"--output {args.output}: name a file that ends in .json")
    check_folder("--output", args.output.parent)
    check_device(args.device)
    if args.device == "cpu" and "fp16" in args.dtype:
        raise UserError("--dtype fp16 needs --device cuda")


def lengths(args: Namespace) -> Pairs:
    """The lengths that sentences are to have."""
    return multi30k() if args.data is None else of_data(args.data)


def heat(args: Namespace, shape: Shape, **more: Any) -> Heat:
    """One comparison as the flags say, save what *more* is said: flags and lengths, which they do not, at least."""
    names = ("max_tokens", "batches", "starts", "rounds", "warmup", "seed", "threads", "device")
    said = {name: getattr(args, name) for name in names} | {"processes": 1}
    return Heat(shape, **(said | more))
