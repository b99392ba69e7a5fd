"""How far the trainings of a grid are, and how long they will still take."""

import heapq
import time
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """An estimate from the trainings that have ended: each one that has not is taken to last as long as their mean, and
    to begin when a place is free. Of one that went on from a checkpoint only a part was seen: it does not count.

    Args:
        waiting: how many have yet to begin, as it is now: what a choice asks for may be there already.
        places: how many run at a time.
        clock: seconds that pass.
    """

    def __init__(self, waiting: Callable[[], int], places: int, clock: Callable[[], float] = time.monotonic):
        self._waiting = waiting
        self._places = places
        self._clock = clock
        self._began: dict[str, float] = {}
        self._going_on: set[str] = set()
        self._took: list[float] = []
        self._ended = 0

    def begin(self, name: str, going_on: bool = False) -> None:
        """A training begins, or goes on."""
        self._began[name] = self._clock()
        if going_on:
            self._going_on.add(name)

    def end(self, name: str) -> None:
        """It has ended."""
        took = self._clock() - self._began.pop(name)
        self._ended += 1
        if name not in self._going_on:
            self._took.append(took)

    def left(self) -> float | None:
        """Seconds until all have ended; None before one has that ran from its beginning."""
        if not self._took:
            return None
        mean, now = sum(self._took) / len(self._took), self._clock()
        free = [max(0.0, began + mean - now) for began in list(self._began.values())]
        free += [0.0] * (self._places - len(free))
        heapq.heapify(free)
        for _ in range(self._waiting()):
            heapq.heappush(free, heapq.heappop(free) + mean)
        return max(free)

    def __str__(self) -> str:
        """``3/40 trained, 5 h 10 min left``; empty where nothing is to be trained."""
        trainings = self._ended + len(self._began) + self._waiting()
        if not trainings:
            return ""
        ended, left = f"{self._ended}/{trainings} trained", self.left()
        return ended if left is None else f"{ended}, {_duration(left)} left"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
