"""Some of many cases, for the short set of tests."""

from collections.abc import Sequence

__all__ = ["spread"]


def spread(items: Sequence, most: int) -> list:
    """At most so many, from the first to the last."""
    count = min(most, len(items))
    return [items[(len(items) - 1) * step // max(1, count - 1)] for step in range(count)]
