"""``profile``: where an update's time goes, by kind of work."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from . import report
from .contestants import Contestant, contestants
from .options import add_heat_arguments, check, heat, lengths
from .race import Heat, Team
from .render import KINDS, print_report
from .shapes import shape

__all__ = ["HELP", "add_arguments", "by_kind", "run"]

HELP = "where the time of an update goes: matrix products, attention, norms, dropout, loss, …"


def by_kind(milliseconds: dict[str, float]) -> dict[str, float]:
    """Sum up the operators' own time by kind."""
    found = dict.fromkeys((*KINDS, "rest"), 0.0)
    for name, spent_there in milliseconds.items():
        kind = next((kind for kind, names in KINDS.items() if re.fullmatch(names, name)), "rest")
        found[kind] += spent_there
    return found


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--shapes", nargs="+", default=["iwslt"], metavar="NAME", help="default: iwslt")
    parser.add_argument(
        "--contestants", nargs="+", default=["stock", "order-2+fused"], metavar="NAME", help="see train"
    )
    add_heat_arguments(parser, "bench/profile.json")
    parser.set_defaults(starts=1, batches=1)


def _measure(one: Heat, contestant: Contestant) -> dict[str, Any]:
    with Team(contestant.name, [one.job(contestant, 0, ".")]) as team:
        for _ in range(one.warmup + 1):
            team.ask("step", 0)
        rounds = [by_kind(team.ask("profile", 0)[0]) for _ in range(one.rounds)]
    typical = sorted(rounds, key=lambda kinds: sum(kinds.values()))[len(rounds) // 2]
    return {"contestant": contestant.name, "flags": " ".join(contestant.flags), "milliseconds": typical}


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure one contestant after the other, write the report, and print it."""
    check(args)
    shapes = [shape(name) for name in args.shapes]
    runners, pairs = contestants(args.contestants, args.dtype), lengths(args)
    found = report.new(args, "profile")
    with console.status("starting") as status:
        for place in shapes:
            one, runs = heat(args, place, flags=tuple(flags), lengths=pairs), []
            for runner in runners:
                status.update(f"{place.name}: {runner.name}")
                runs.append(_measure(one, runner))
            found["heats"].append({"shape": place.name, "value": None, "runs": runs})
    report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)
