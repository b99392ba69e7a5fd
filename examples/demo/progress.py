"""Showing how far the demo is: a moving bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["bar"]

SECONDS_BETWEEN_LINES = 20


@contextmanager
def bar(console: Console, title: str, total: float | None) -> Iterator[Callable[[float, str], None]]:
    """Show a task of ``total`` steps (None: unknown); gives ``advance(completed, note)``."""
    if console.is_terminal:
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        ]
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(title, total=total, note="")
            yield lambda completed, note="": progress.update(task, completed=completed, note=note)
    else:
        console.print(f"{title} …")
        yield _lines(console, title, total)


def _lines(console: Console, title: str, total: float | None) -> Callable[[float, str], None]:
    start = printed = time.monotonic()
    first: float | None = None  # a resumed task does not begin at 0

    def advance(completed: float, note: str = "") -> None:
        nonlocal printed, first, start
        now = time.monotonic()
        if first is None:
            first, start = completed, now
        if now - printed < SECONDS_BETWEEN_LINES:
            return
        printed = now
        left = ""
        if total and completed > first:
            seconds = (now - start) * (total - completed) / (completed - first)
            left = f", left: {seconds // 60:.0f}:{seconds % 60:02.0f}"
        console.print(f"{title}: {note or f'{completed:.0f} of {total:.0f}'}{left}", highlight=False)

    return advance
