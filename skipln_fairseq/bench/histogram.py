"""``histogram``: the lengths of binarised data, as ``multi30k.txt`` has them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from .lengths import histogram, of_data

__all__ = ["HELP", "add_arguments", "run"]

HELP = "print how long the training sentences of binarised data are"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("data", type=Path, metavar="DIR", help="binarised data")


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Print."""
    print(histogram(of_data(args.data).tolist()), end="")
