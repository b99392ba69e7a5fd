"""``family``: an update and a search of every member of the family beside Post-LN."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..models.family import declarations, example
from ..nn import SKIPS
from ..nn.skip.streams import Streams
from ..nn.variant import Declaration
from . import report
from .contestants import BASES, DTYPES, Contestant
from .options import add_count, add_race_arguments, check, heat, lengths
from .race import race
from .render import print_report
from .shapes import shape
from .statistics import quartiles, ratio
from .train_and_decode import SEARCHES, TrainAndDecodeJob

__all__ = ["HELP", "Member", "add_arguments", "members", "run"]

HELP = "time and memory of an update, and time of decoding, of every member of the family, beside Post-LN"

PLAIN = BASES["plain"]
WORKS = {"": "step", "decode_": "decode"}


@dataclass(frozen=True)
class Member(Contestant):
    """A variant as a contestant.

    Attributes:
        stream: what walks from sub-layer to sub-layer, in words.
    """

    stream: str = "one"


POST_LN = Member("Post-LN", "Post-LN", PLAIN)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--shapes", nargs="+", default=["tiny"], metavar="NAME", help="default: tiny")
    add_count(
        parser, "together", 6, "members that take turns with one Post-LN, each a process with its model"
    )
    add_race_arguments(parser, "bench/family.json")


def _stream(variant: Declaration) -> str:
    """What walks through a variant's model, in words."""
    if variant.axis == "mixing" and variant.choice != "none":
        return "one, and earlier ones"
    if variant.axis == "solver" and variant.choice != "none":
        return "one, blocks again"
    if variant.axis != "skip":
        return "one"
    rule = SKIPS[variant.choice]
    if not rule.is_wide:
        return "one, in parts" if issubclass(rule, Streams) else "one"
    return "several" if rule.merges else "one, and an earlier one"


def members() -> list[Member]:
    """Every variant, as the example of its row chooses it; what that does not say is as in Post-LN."""
    return [
        Member(f"{v.title} ({v.choice})", v.choice, (*PLAIN, *example(v).split()), _stream(v))
        for v in declarations()
    ]


def _groups(args: Namespace) -> Iterator[tuple[str, str, list[Member]]]:
    """What is measured together: a shape, a type and some members, Post-LN first."""
    found = members()
    for place in args.shapes:
        for dtype in args.dtype:
            for start in range(0, len(found), args.together):
                group = [POST_LN, *found[start : start + args.together]]
                yield place, dtype, [reduce(Member.changed, DTYPES[dtype], one) for one in group]


def summarise(runs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As :func:`.report.summarise`, with ``decode_seconds``, of a round, and ``decode_ratio``."""
    for run in report.summarise(runs):
        decoding = {
            "decode_seconds": quartiles(run["decode_seconds"]),
            "decode_ratio": ratio(run["decode_seconds"], runs[0]["decode_seconds"]),
        }
        yield run | {"summary": run["summary"] | decoding}


def _in_order(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Post-LN, of the first group, and then the cheapest update first."""
    first, *others = runs
    return [first, *sorted(others, key=lambda run: run["summary"]["time_ratio"][0])]


def _begun(file: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """What a run that was cut off has left, if it was of the same command, code and machine; else ``fresh``."""
    try:
        found = report.read(file)
    except UserError:
        return fresh
    same = all(found.get(key) == fresh[key] for key in ("kind", "command", "settings", "lengths", "plan"))
    machine = {key: value for key, value in fresh["where"].items() if key != "date"}
    same = same and {**found["where"], **machine} == found["where"]
    return found if same and found["done"] < len(found["plan"]) else fresh


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure group by group, each with a Post-LN of its own that ratios are to; write after each, and print.

    A run that was cut off and is started again goes on with the next group.
    """
    check(args)
    places, pairs = {name: shape(name) for name in args.shapes}, lengths(args)
    groups = list(_groups(args))
    fresh = report.new(args, "family") | {
        "searches": SEARCHES,
        "plan": [[place, dtype, *(one.name for one in group)] for place, dtype, group in groups],
        "done": 0,
    }
    found = _begun(args.output, fresh)
    with console.status("starting") as status:
        for number in range(found["done"], len(groups)):
            place, dtype, group = groups[number]

            def say(text: str, number: int = number) -> None:
                status.update(f"group {number + 1} of {len(groups)}, {text}")

            one = heat(args, places[place], flags=tuple(flags), lengths=pairs, jobs=TrainAndDecodeJob)
            measured = list(summarise(race(one, group, say, WORKS)))
            _add(found, place if len(args.dtype) == 1 else f"{place} {dtype}", group, measured)
            report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)


def _add(found: dict[str, Any], place: str, group: Sequence[Member], measured: list[dict[str, Any]]) -> None:
    """Put a group's runs among those before it."""
    runs = [run | {"stream": one.stream} for one, run in zip(group, measured, strict=True)]
    if not found["heats"] or found["heats"][-1]["shape"] != place:
        found["heats"].append({"shape": place, "value": None, "runs": runs[:1]})
    found["heats"][-1]["runs"] = _in_order([*found["heats"][-1]["runs"], *runs[1:]])
    found["done"] += 1
