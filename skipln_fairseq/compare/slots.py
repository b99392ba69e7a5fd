"""Several commands at a time, each on its share of the cores or on its GPU."""

import queue
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
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

    def run(self, jobs: Mapping[Any, Job], on_end: Callable[[Any, Any], None]) -> None:
        """Run ``jobs``, in their order, as places become free.

        ``on_end`` gets a job's name and what it gave, or the :class:`.UserError` with which it ended. What is raised
        here, an interruption too, ends all commands that run.
        """
        with ThreadPoolExecutor(self.count) as pool:
            futures = {pool.submit(self._place, job): name for name, job in jobs.items()}
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if error is not None and not isinstance(error, UserError):
                        raise error
                    on_end(futures[future], error or future.result())
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
