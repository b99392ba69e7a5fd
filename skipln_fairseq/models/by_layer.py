"""``--encoder-by-layer 0-2:norm-placement=post 3-:skip-norm=rms``: other choices for some layers of a stack.

A value is RANGE:CHOICES. The range counts layers from 0 as the model is made: ``3``, ``0-2``, or ``3-`` to the last.
The choices, joined by commas, are NAME=VALUE with the names of the flags, a switch by its name alone. What a range does
not say is as in the rest of the stack.
"""

import copy
import re
from dataclasses import dataclass
from typing import Any

from ..common.errors import UserError
from ..nn.variant import Option

__all__ = ["Part", "parts", "with_choices"]

RANGE = re.compile(r"(?P<first>\d+)(?P<to>-?)(?P<last>\d*)")
CHOICES = (
    "skip-type",
    "skip-norm",
    "norm-placement",
    "self-attn-skip-norm",
    "cross-attn-skip-norm",
    "ffn-skip-norm",
)


@dataclass(frozen=True)
class Part:
    """Layers ``first`` to ``last``, and what is chosen for them, by the flags' names as argparse stores them."""

    first: int
    last: int
    choices: tuple[tuple[str, Any], ...]


def parts(flag: str, values: list[str] | str | None, layers: int, options: dict[str, Option]) -> list[Part]:
    """Read the flag.

    Args:
        flag: its name, for messages.
        values: what was given.
        layers: of the whole stack.
        options: by their flags, one of each.

    Raises:
        UserError: for a range outside the stack, two that overlap, and names that are none.
    """
    values = values.split() if isinstance(values, str) else values or []
    found = [_part(flag, value, layers, options) for value in values]
    for before, after in zip(sorted(found, key=_first), sorted(found, key=_first)[1:], strict=False):
        if after.first <= before.last:
            raise UserError(f"{flag}: layer {after.first} is in two ranges")
    return found


def _first(part: Part) -> int:
    return part.first


def _part(flag: str, value: str, layers: int, options: dict[str, Option]) -> Part:
    place, _, choices = value.partition(":")
    match = RANGE.fullmatch(place)
    if not match or not choices:
        raise UserError(f"{flag} {value}: valid is RANGE:NAME=VALUE,… such as 0-2:norm-placement=post")
    first = int(match["first"])
    last = int(match["last"] or layers - 1) if match["to"] else first
    if not first <= last < layers:
        raise UserError(f"{flag} {value}: the stack has layers 0 to {layers - 1}")
    return Part(first, last, tuple(_choice(flag, one, options) for one in choices.split(",")))


def _choice(flag: str, text: str, options: dict[str, Option]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    stored = name.removeprefix("no-").replace("-", "_")
    if stored in options and options[stored].metavar is None and not equals:
        return stored, not name.startswith("no-")
    stored = name.replace("-", "_")
    if not equals or not (name in CHOICES or (stored in options and options[stored].metavar)):
        known = (*CHOICES, *(option.replace("_", "-") for option in options))
        raise UserError(
            f"{flag} {text}: valid are NAME=VALUE of {', '.join(known)}, a switch by its name alone"
        )
    return stored, value


def with_choices(args: Any, side: str, part: Part) -> Any:
    """The flags of the stack with those of a part over them."""
    # fairseq's config keeps the flags of a side in a part of its own, which a shallow copy would share
    changed = copy.deepcopy(args)
    for name, value in part.choices:
        setattr(changed, f"{side}_{name}", value)
    return changed
