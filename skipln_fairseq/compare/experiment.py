"""The trainings and evaluations of a grid: which there are, which are missing, and running these."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..runs import CommandFailed, locked
from .cell import Cell
from .data import Data
from .grid import Grid
from .pace import Pace
from .slots import Job, Slots
from .training import Training

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """A grid and the folder of its runs.

    Args:
        grid: what is compared.
        work_dir: folder of all that is made; a run's folder is named after what shapes the run, so that grids may share
            it.
        user_dir: of skipln_fairseq, as the commands name it.
    """

    grid: Grid
    work_dir: Path
    user_dir: str

    def check(self) -> None:
        """Refuse data that are not there.

        Raises:
            UserError: names the file.
        """
        for data in self.grid.data:
            self.grid.measure.check(data)

    def check_commands(self) -> None:
        """Refuse flags that a training or an evaluation would refuse, before the first of them runs.

        Only for what is still to be trained.

        Raises:
            UserError: names data, variant and flag.
        """
        for data in self.grid.data:
            for variant in self.grid.variants:
                name = f"{data.name} / {variant}"
                for training in self._first_trainings(data, variant):
                    training.check(name)
                    cell = self.grid.measure(training, self.grid.evaluate, self.grid.score)
                    cell.check_command(f"{name}: evaluate")

    def _first_trainings(self, data: Data, variant: str) -> Iterator[Training]:
        """One training for each set of flags, those that have not ended."""
        tune, trainings = self.grid.tune, list(self.candidates(data, variant).values())
        if tune is None or tune.train:
            flags = {**self.grid.flags(data, variant), **({tune.flag: tune.values[0]} if tune else {})}
            trainings.append(self._training(data, variant, self.grid.seeds[0], flags))
        return (training for training in trainings if training.result() is None)

    def candidates(self, data: Data, variant: str) -> dict[Any, Training]:
        """The trainings among whose values of the tuned flag the variant chooses."""
        tune = self.grid.tune
        if tune is None:
            return {}
        flags = {**self.grid.flags(data, variant), **tune.train}
        return {
            value: self._training(data, variant, tune.seed, {**flags, tune.flag: value})
            for value in tune.of(variant)
        }

    def losses(self, data: Data, variant: str) -> dict[Any, float | None]:
        """The best validation loss of each value that has been tried; infinite without a finite one."""
        tried = {value: training.result() for value, training in self.candidates(data, variant).items()}
        return {
            value: math.inf if result["best_loss"] is None else result["best_loss"]
            for value, result in tried.items()
            if result is not None
        }

    def chosen(self, data: Data, variant: str) -> Any:
        """The value with the lowest loss, the first of equals, or None while one is missing."""
        losses = self.losses(data, variant)
        if self.grid.tune is None or len(losses) < len(self.grid.tune.of(variant)):
            return None
        return min(losses, key=lambda value: losses[value])

    def cell(self, data: Data, variant: str, seed: int) -> Cell | None:
        """A cell of the comparison, or None while its tuning is not complete."""
        flags = self.grid.flags(data, variant)
        if self.grid.tune is not None:
            chosen = self.chosen(data, variant)
            if chosen is None:
                return None
            flags = {**flags, self.grid.tune.flag: chosen}
        training = self._training(data, variant, seed, flags)
        return self.grid.measure(training, self.grid.evaluate, self.grid.score)

    def _training(self, data: Data, variant: str, seed: int, flags: dict[str, Any]) -> Training:
        return Training(self.work_dir, self.user_dir, data, variant, seed, flags)

    def run(self, slots: Slots, say: Callable[[str], None]) -> int:
        """Run what is missing, data set by data set: the tuning, then seed by seed, so that what is done is comparable
        whenever it ends. What waits for its tuning lets later runs go first. Gives the number of runs that failed.
        """

        def in_order() -> Iterator[tuple[str, Run | None]]:
            for data in self.grid.data:
                yield from self._tunings(data)
                yield from self._cells(data)

        return _run_all(in_order, slots, self._waiting, say)

    def _waiting(self, begun: Set[Path]) -> int:
        """How many trainings are missing, without those in these folders. While a tuning is, its variant's seeds are,
        but for the tuning's own if that is trained alike.
        """
        tune = self.grid.tune
        missing: set[Path] = set()
        unknown = 0
        for data in self.grid.data:
            trainings = [training for _, training in self._tunings(data)]
            for seed in self.grid.seeds:
                cells = [self.cell(data, variant, seed) for variant in self.grid.variants]
                trainings += [cell.training for cell in cells if cell is not None]
                if tune is None or tune.train or seed != tune.seed:
                    unknown += cells.count(None)
            missing.update(training.folder for training in trainings if training.result() is None)
        return len(missing - begun) + unknown

    def names(self) -> list[str]:
        """Of all runs, by their numbers: every tuning comes before what depends on it."""
        return [name for name, _ in self._numbered()]

    def run_one(self, number: int, slots: Slots, say: Callable[[str], None]) -> int:
        """The run of that number alone. Gives 1 if it failed.

        Raises:
            UserError: there is none, or what it depends on is missing.
        """
        runs = list(self._numbered())
        if not 0 <= number < len(runs):
            raise UserError(f"--run {number}: valid are 0 to {len(runs) - 1}, see --list")
        name, one = runs[number]
        if one is None:
            raise UserError(f"--run {number}: {name}: not all runs of its tuning are there, see --list")
        if one.result() is not None:
            say(f"{name}: is there")
        return _run_all(lambda: [(name, one)], slots, lambda begun: int(not (begun or _is_trained(one))), say)

    def _numbered(self) -> Iterator[tuple[str, "Run | None"]]:
        for of_data in (self._tunings, self._cells):
            for data in self.grid.data:
                yield from of_data(data)

    def _tunings(self, data: Data) -> Iterator[tuple[str, Training]]:
        """The first value of all variants, then the second one, and so on: a variant may have more than others."""
        for of_place in itertools.zip_longest(*(self._tuning_of(data, one) for one in self.grid.variants)):
            yield from (named for named in of_place if named is not None)

    def _tuning_of(self, data: Data, variant: str) -> Iterator[tuple[str, Training]]:
        for value, training in self.candidates(data, variant).items():
            yield f"{data.name} / {variant} / {self.grid.tune.flag} {value}", training

    def _cells(self, data: Data) -> Iterator[tuple[str, Cell | None]]:
        for seed in self.grid.seeds:
            for variant in self.grid.variants:
                yield f"{data.name} / {variant} / seed {seed}", self.cell(data, variant, seed)


Run = Training | Cell


def _training_of(one: Run) -> Training:
    return one if isinstance(one, Training) else one.training


def _is_trained(one: Run) -> bool:
    return _training_of(one).result() is not None


def _alone(training: Training) -> AbstractContextManager[int]:
    """Keep others out of the folder. The training shares the lock: it keeps them out even if this process is killed."""
    return locked(training.folder, "run of the comparison")


def _train(training: Training) -> Job:
    def job(environment, on_start) -> str:
        with _alone(training) as lock:
            result = training.result() or training.train(environment, on_start, (lock,))
        loss = "none" if result["best_loss"] is None else f"{result['best_loss']:.3f}"
        return f"validation loss {loss}" + (", diverged" if result["diverged"] else "")

    return job


def _evaluate(cell: Cell) -> Job:
    def job(environment, on_start) -> str:
        with _alone(cell.training) as lock:
            if cell.training.result() is None:
                cell.training.train(environment, on_start, (lock,))
            result = cell.result() or cell.evaluate(environment, on_start)
        return ", ".join(f"{name} {score:.2f}" for name, score in result["scores"].items())

    return job


def _run_all(
    runs: Callable[[], Iterable[tuple[str, Run | None]]],
    slots: Slots,
    waiting: Callable[[Set[Path]], int],
    say: Callable[[str], None],
) -> int:
    """Do what is missing. Gives the number of runs that failed.

    Args:
        runs: all of them in their order, by name, as they are now: None waits for another.
        slots: where they run.
        waiting: how many trainings have yet to begin, without those that were begun in these folders.
        say: gets a line for each end.
    """
    begun: set[str] = set()
    training: dict[str, Path] = {}
    pace = Pace(lambda: waiting(set(training.values())), slots.count)
    failed = 0

    def following() -> tuple[str, Job] | None:
        for name, one in runs():
            if name not in begun and one is not None and one.result() is None:
                begun.add(name)
                if not _is_trained(one):
                    training[name] = _training_of(one).folder
                    pace.begin(name, _training_of(one).begun)
                return name, _train(one) if isinstance(one, Training) else _evaluate(one)
        return None

    def on_end(name: str, outcome: str | UserError) -> None:
        nonlocal failed
        if name in training:
            pace.end(name)
        if isinstance(outcome, UserError):
            failed += 1
            said = f": {outcome.reason}" if isinstance(outcome, CommandFailed) else ""
            outcome = f"failed: {outcome}{said}"
        counted = f"[{pace}] " if str(pace) else ""
        say(f"{counted}{name}: {outcome}")

    slots.run(following, on_end)
    return failed
