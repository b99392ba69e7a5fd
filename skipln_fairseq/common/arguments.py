"""Arguments on the command line, with one line for what is wrong.

``whole(flag, value)`` and its like give a number, or say which are valid.
"""

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import UserError

__all__ = ["count", "finite", "positive", "refuse_in_one_line", "whole"]

Number = TypeVar("Number", int, float)


def _read(
    flag: str, value: Any, kind: Callable[[str], Number], holds: Callable[[Number], bool], valid: str
) -> Number:
    try:
        number = kind(str(value))
    except ValueError:
        number = None
    if number is None or not holds(number):
        raise UserError(f"{flag} {value}: valid is {valid}")
    return number


def whole(flag: str, value: Any) -> int:
    """From 1."""
    return _read(flag, value, int, lambda n: n >= 1, "a whole number of at least 1")


def count(flag: str, value: Any) -> int:
    """From 0."""
    return _read(flag, value, int, lambda n: n >= 0, "a whole number of at least 0")


def finite(flag: str, value: Any) -> float:
    """Any but infinities."""
    return _read(flag, value, float, math.isfinite, "a finite number")


def positive(flag: str, value: Any) -> float:
    """Above 0."""
    return _read(flag, value, float, lambda n: 0 < n < math.inf, "a finite number above 0")


# fairseq has hundreds of architectures
LONG_LIST = re.compile(r" \(choose from .{200,}\)$")


def refuse_in_one_line(parser: argparse.ArgumentParser, name: str = "") -> None:
    """Have a parser raise a ``UserError`` that begins with ``name``, where it would print its usage and exit."""

    def refuse(message: str) -> None:
        raise UserError(f"{name}: " * bool(name) + LONG_LIST.sub("", message))

    parser.error = refuse
