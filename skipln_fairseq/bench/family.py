"""``family``: an update of every member of the family beside Post-LN."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from ..models.family import declarations, example
from . import report
from .contestants import BASES, DTYPES, Contestant
from .options import add_count, add_race_arguments, check, heat, lengths
from .race import race
from .render import print_report
from .shapes import shape

__all__ = ["HELP", "add_arguments", "members", "run"]

HELP = "time and memory of an update of every member of the family, beside Post-LN"

PLAIN = BASES["plain"]


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--shapes", nargs="+", default=["tiny"], metavar="NAME", help="default: tiny")
    add_count(
        parser, "together", 6, "members that take turns with one Post-LN, each a process with its model"
    )
    add_race_arguments(parser, "bench/family.json")


def members() -> list[Contestant]:
    """Every variant, as the example of its row chooses it; what that does not say is as in Post-LN."""
    return [
        Contestant(f"{v.title} ({v.choice})", v.choice, (*PLAIN, *example(v).split())) for v in declarations()
    ]


def _groups(found: Sequence[Contestant], size: int) -> Iterator[Sequence[Contestant]]:
    for start in range(0, len(found), size):
        yield found[start : start + size]


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure group by group, each with a Post-LN of its own that ratios are to; write after every shape, and print."""
    check(args)
    shapes = [shape(name) for name in args.shapes]
    pairs = lengths(args)
    found = report.new(args, "training")
    with console.status("starting") as status:
        for one in shapes:
            race_of = heat(args, one, flags=tuple(flags), lengths=pairs)
            runs = []
            for dtype in args.dtype:
                changes = DTYPES[dtype]
                first, *others = [
                    _changed(c, changes) for c in (Contestant("Post-LN", "Post-LN", PLAIN), *members())
                ]
                for group in _groups(others, args.together):
                    measured = report.summarise(race(race_of, [first, *group], status.update))
                    known = {run["contestant"] for run in runs}
                    runs += [run for run in measured if run["contestant"] not in known]
            found["heats"].append({"shape": one.name, "value": None, "runs": runs})
            report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)


def _changed(contestant: Contestant, changes: Sequence[str]) -> Contestant:
    for change in changes:
        contestant = contestant.changed(change)
    return contestant
