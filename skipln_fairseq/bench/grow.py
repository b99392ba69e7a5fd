"""``grow``: time and memory as one thing grows: the order, the depth, the length, the threads or the processes."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.errors import UserError
from . import report
from .batches import MULTIPLE
from .contestants import Contestant, contestants
from .lengths import equal
from .options import add_race_arguments, check, heat, lengths
from .race import Heat, race
from .render import print_report
from .shapes import shape

__all__ = ["AXES", "HELP", "Axis", "Point", "add_arguments", "heats", "run"]

HELP = "time and memory as order, depth, length, threads or processes grow"


def _layers(value: int, flags: Sequence[str], args: Namespace) -> dict[str, Any]:
    return {"flags": (*flags, "--encoder-layers", str(value), "--decoder-layers", str(value))}


def _equal_lengths(value: int, flags: Sequence[str], args: Namespace) -> dict[str, Any]:
    fitting = args.max_tokens // value
    if not fitting:
        raise UserError(f"--values {value}: no sentence of this length fits --max-tokens {args.max_tokens}")
    sentences = fitting - fitting % MULTIPLE if fitting > MULTIPLE else fitting
    return {"lengths": equal(value, sentences * args.batches)}


@dataclass(frozen=True)
class Axis:
    """Something that grows.

    Attributes:
        values: unless ``--values`` says others.
        contestants: unless ``--contestants`` says others; K in a name stands for the value.
        differs: what a value changes about a heat, from the value, fairseq-train's flags and the command's.
    """

    values: tuple[int, ...]
    contestants: tuple[str, ...]
    differs: Callable[[int, Sequence[str], Namespace], dict[str, Any]]


USUAL = ("stock", "plain", "order-2")
AXES = {
    "order": Axis((1, 2, 4, 8), ("stock", "order-K", "naive-K"), lambda value, flags, args: {}),
    "depth": Axis((6, 12, 24, 48), USUAL, _layers),
    "length": Axis((16, 64, 256, 1024), USUAL, _equal_lengths),
    "threads": Axis((1, 2), USUAL, lambda value, flags, args: {"threads": value}),
    "processes": Axis((1, 2), USUAL, lambda value, flags, args: {"processes": value}),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("axis", metavar="AXIS", help=f"what grows: {', '.join(AXES)}")
    parser.add_argument("--values", nargs="+", type=int, metavar="N", help="default: the axis' own")
    parser.add_argument("--shapes", nargs="+", default=["tiny"], metavar="NAME", help="default: tiny")
    parser.add_argument(
        "--contestants",
        nargs="+",
        metavar="NAME",
        help="default: the axis' own; K stands for the value: order-K",
    )
    add_race_arguments(parser, "bench/grow-AXIS.json")


@dataclass(frozen=True)
class Point:
    """A value of the axis, and what is compared there."""

    value: int
    heat: Heat
    contestants: list[Contestant]


def heats(args: Namespace, flags: Sequence[str]) -> list[Point]:
    """What the flags ask for.

    Raises:
        UserError: for what is not valid, before anything runs.
    """
    if args.axis not in AXES:
        raise UserError(f"grow {args.axis}: valid are {', '.join(AXES)}")
    axis = AXES[args.axis]
    values = args.values or axis.values
    if min(values) < 1:
        raise UserError(f"--values {min(values)}: valid is a whole number of at least 1")
    for name, by, usual in (("threads", "threads", 1), ("data", "length", None)):
        if args.axis == by and getattr(args, name) != usual:
            raise UserError(f"--{name} has no meaning with grow {by}: --values says what is measured")
    if args.axis == "processes" and args.device != "cpu":
        raise UserError("grow processes needs --device cpu: its processes would share one GPU")
    check(args)
    usual = {"flags": tuple(flags), "lengths": lengths(args)}
    names = args.contestants or axis.contestants
    return [
        Point(
            value,
            heat(args, one, **(usual | axis.differs(value, flags, args))),
            contestants(names, args.dtype, value),
        )
        for one in map(shape, args.shapes)
        for value in values
    ]


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure, write the report after every value, and print it."""
    args.output = args.output.with_name(args.output.name.replace("AXIS", args.axis))
    points = heats(args, flags)
    found = report.new(args, "training", args.axis)
    with console.status("starting") as status:
        for point in points:
            place = f"{args.axis} {point.value}, "
            runs = race(point.heat, point.contestants, lambda text, place=place: status.update(place + text))
            runs = [{"series": one.series, **run} for one, run in zip(point.contestants, runs, strict=True)]
            name = point.heat.shape.name
            found["heats"].append({"shape": name, "value": point.value, "runs": report.summarise(runs)})
            report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)
