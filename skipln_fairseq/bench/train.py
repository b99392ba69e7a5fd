"""``train``: an update of every contestant, at every shape."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from . import report
from .contestants import DEFAULT, contestants
from .options import add_race_arguments, check, heat, lengths
from .race import race
from .render import print_report
from .shapes import DEFAULT as DEFAULT_SHAPES
from .shapes import SHAPES, shape

__all__ = ["HELP", "add_arguments", "run"]

HELP = "time and memory of an update, contestant by contestant; the command unless another is named"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=list(DEFAULT_SHAPES),
        metavar="NAME",
        help=f"{', '.join(SHAPES)} (default: {', '.join(DEFAULT_SHAPES)})",
    )
    parser.add_argument(
        "--contestants", nargs="+", default=list(DEFAULT), metavar="NAME", help=f"{', '.join(DEFAULT)}"
    )
    add_race_arguments(parser, "bench/train.json")


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure, write the report after every shape, and print it."""
    check(args)
    shapes = [shape(name) for name in args.shapes]
    runners = contestants(args.contestants, args.dtype)
    pairs = lengths(args)
    found = report.new(args, "training")
    with console.status("starting") as status:
        for one in shapes:
            runs = race(heat(args, one, flags=tuple(flags), lengths=pairs), runners, status.update)
            found["heats"].append({"shape": one.name, "value": None, "runs": report.summarise(runs)})
            report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)
