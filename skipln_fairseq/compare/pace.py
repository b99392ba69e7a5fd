"""How far a grid's trainings are, and how long they will still take."""

import time
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """An estimate from the trainings that have ended: each one that has not is taken to last as long as their mean.

    Args:
        trainings: how many there are to be done.
        places: how many run at a time.
        clock: seconds that pass.
    """

    def __init__(self, trainings: int, places: int, clock: Callable[[], float] = time.monotonic):
        self._trainings = trainings
        self._places = places
        self._clock = clock
        self._began: dict[str, float] = {}
        self._took: list[float] = []

    def begin(self, name: str) -> None:
        """A training begins."""
        self._began[name] = self._clock()

    def end(self, name: str) -> None:
        """It has ended."""
        self._took.append(self._clock() - self._began.pop(name))

    def left(self) -> float:
        """Seconds until all have ended; 0 before the first one has."""
        if not self._took:
            return 0
        mean = sum(self._took) / len(self._took)
        waiting = max(self._trainings - len(self._took), len(self._began))
        done = sum(min(self._clock() - began, mean) for began in list(self._began.values()))
        return (waiting * mean - done) / max(1, min(self._places, waiting))

    def __str__(self) -> str:
        ended = f"{len(self._took)}/{max(self._trainings, len(self._took))} trained"
        return f"{ended}, {_duration(self.left())} left" if self._took else ended


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
