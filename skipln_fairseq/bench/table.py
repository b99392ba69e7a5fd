"""``table``: a report once more, in the terminal or in Markdown."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from .render import markdown, print_report
from .report import read

__all__ = ["HELP", "add_arguments", "run"]

HELP = "print a report"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("file", type=Path, metavar="FILE.json", help="what train, grow or leave wrote")
    parser.add_argument("--markdown", action="store_true", help="as a table for a README")


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Print."""
    report = read(args.file)
    if args.markdown:
        print(markdown(report), end="")
    else:
        print_report(report, console)
