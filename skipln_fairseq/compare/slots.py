"""Several commands at a time, each on its share of the cores or on its GPU."""

import queue
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

from ..common.errors import UserError

__all__ = ["Slots"]

Job = Callable[[Mapping[str, str], Callable[[subprocess.Popen], None]], Any]


class Slots:
    """Places where jobs run.

    Args:
        environments: of each place, the variables that its commands get.

    Attributes:
        count: of the places.
    """

    def __init__(self, environments: Iterable[Mapping[str, str]]):
        self._free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        self.count = 0
        for environment in environments:
            self._free.put(environment)
            self.count += 1
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self, following: Callable[[], tuple[Any, Job] | None], on_end: Callable[[Any, Any], None]
    ) -> None:
        """Run jobs as places become free, until none is left.

        What is raised here, an interruption too, ends all commands that run.

        Args:
            following: gives the next job and its name. None says that none can begin now; it is asked again after each
                end of a job.
            on_end: gets a job's name and what it gave, or the :class:`.UserError` with which it ended.
        """
        running: dict[Any, Any] = {}
        with ThreadPoolExecutor(self.count) as pool:
            try:
                while True:
                    while len(running) < self.count and (found := following()) is not None:
                        name, job = found
                        running[pool.submit(self._place, job)] = name
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        error = future.exception()
                        if error is not None and not isinstance(error, UserError):
                            raise error
                        on_end(running.pop(future), error or future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise

    def _place(self, job: Job) -> Any:
        environment = self._free.get()
        try:
            return job(environment, self._started)
        finally:
            self._free.put(environment)

    def _started(self, process: subprocess.Popen) -> None:
        with self._lock:
            self._running.add(process)
            if self._stopped:
                process.terminate()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.returncode is None:
                    process.terminate()
