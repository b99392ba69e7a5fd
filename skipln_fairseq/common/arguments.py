"""Numbers on the command line: ``read(flag, value)`` gives one, or says in one line which are valid."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import UserError

__all__ = ["count", "finite", "positive", "whole"]

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
