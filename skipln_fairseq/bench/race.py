"""A comparison: all contestants as processes of one tree, all ready, one at a time asked for a step."""

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL
from typing import Any, NoReturn

from ..common.errors import UserError
from .contestants import Contestant
from .lengths import Pairs
from .shapes import Shape
from .worker import Failure, Job, serve

__all__ = ["Heat", "Team", "race"]

PAUSE = 0.005
"""Seconds between two turns: threads of the one before spin for a moment before they sleep."""


@dataclass(frozen=True)
class Heat:
    """What all contestants of a comparison have in common.

    Attributes:
        shape: dimensions and vocabulary.
        flags: of fairseq-train, over the shape's.
        lengths: of the corpus.
        max_tokens: of a batch.
        batches: how many; a round is a step with each of them.
        starts: how often all processes are started.
        rounds: of each start, how many are timed.
        warmup: of each start, how many before are not.
        seed: of parameters, words, batches and the order of the turns.
        threads: of each process.
        processes: that share a training's data.
        device: cpu or cuda.
    """

    shape: Shape
    flags: tuple[str, ...]
    lengths: Pairs
    max_tokens: int
    batches: int
    starts: int
    rounds: int
    warmup: int
    seed: int
    threads: int
    processes: int
    device: str

    def job(self, contestant: Contestant, rank: int, folder: str) -> Job:
        """What one process of a contestant does."""
        return Job(
            name=contestant.name,
            flags=(*self.shape.flags, *self.flags, *contestant.flags),
            words=self.shape.words,
            lengths=self.lengths,
            max_tokens=self.max_tokens,
            batches=self.batches,
            seed=self.seed,
            threads=self.threads,
            device=self.device,
            folder=folder,
            rank=rank,
            processes=self.processes,
        )


class Team:
    """The processes of one contestant, which answer together; they end with the ``with`` block or with this process."""

    def __init__(self, name: str, jobs: Sequence[Job]):
        self.name = name
        context = multiprocessing.get_context("forkserver")  # fairseq is imported once, no thread is copied
        context.set_forkserver_preload([Job.__module__])
        self.processes, self.connections = [], []
        for job in jobs:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, job), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.connections.append(ours)

    def __enter__(self) -> "Team":
        self.first = self.answers()
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.kill()
            process.join()

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """What every process answers.

        Raises:
            UserError: where one of them failed or is gone.
        """
        for process, connection in zip(self.processes, self.connections, strict=True):
            try:
                connection.send((method, *arguments))
            except OSError:
                self._gone(process)
        return self.answers()

    def _gone(self, process: BaseProcess) -> NoReturn:
        process.join(timeout=5)
        code = process.exitcode
        how = "it was killed, as where memory runs out" if code == -SIGKILL else f"exit status {code}"
        raise UserError(f"{self.name}: its process ended, {how}") from None

    def answers(self) -> list[Any]:
        """What every process says next."""
        found = []
        for process, connection in zip(self.processes, self.connections, strict=True):
            try:
                found.append(connection.recv())
            except (EOFError, OSError):
                self._gone(process)
            if isinstance(found[-1], Failure):
                message = found[-1].message
                raise UserError(
                    message if message.startswith(("--", self.name)) else f"{self.name}: {message}"
                )
        return found


def _together(answers: Sequence[dict[str, Any]], key: str) -> int | None:
    values = [answer[key] for answer in answers]
    return None if None in values else sum(values)


def _round(teams: Sequence[Team], batches: int, order: random.Random) -> list[tuple[float, float]]:
    """Seconds and processor seconds of each team for a step with every batch.

    Of a team's processes the slowest one's seconds count, and the processor seconds of all.
    """
    seconds, busy = [0.0] * len(teams), [0.0] * len(teams)
    for batch in range(batches):
        for turn in order.sample(range(len(teams)), len(teams)):
            time.sleep(PAUSE)
            answers = teams[turn].ask("step", batch)
            seconds[turn] += max(answer[0] for answer in answers)
            busy[turn] += sum(answer[1] for answer in answers)
    return list(zip(seconds, busy, strict=True))


def _lap(
    heat: Heat, contestants: Sequence[Contestant], order: random.Random, say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """What :func:`race` returns, of one set of processes."""
    with ExitStack() as stack:
        teams = []
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="skipln-bench-"))
        for number, one in enumerate(contestants):
            say(f"building {one.name}")
            place = Path(folder, str(number))
            place.mkdir()
            jobs = [heat.job(one, rank, str(place)) for rank in range(heat.processes)]
            teams.append(stack.enter_context(Team(one.name, jobs)))
        for number in range(heat.warmup):
            say(f"warm-up {number + 1} of {heat.warmup}")
            _round(teams, heat.batches, order)
        rounds = []
        for number in range(heat.rounds):
            say(f"round {number + 1} of {heat.rounds}")
            rounds.append(_round(teams, heat.batches, order))
        say("memory")
        memory = [team.ask("memory") for team in teams]
    return [
        {
            "contestant": one.name,
            "flags": " ".join(one.flags),
            "parameters": team.first[0]["parameters"],
            "tokens": sum(sum(answer["tokens"]) for answer in team.first),
            "sentences": sum(sum(answer["sentences"]) for answer in team.first),
            "seconds": [wall for wall, _ in timed],
            "cpu_seconds": [busy for _, busy in timed],
            "bytes": {key: _together(held, key) for key in ("state", "step", "resident")},
        }
        for one, team, timed, held in zip(contestants, teams, zip(*rounds, strict=True), memory, strict=True)
    ]


def race(
    heat: Heat, contestants: Sequence[Contestant], say: Callable[[str], object] = lambda text: None
) -> list[dict[str, Any]]:
    """Train all contestants side by side.

    A process keeps for its life what chance gave it, its place in memory for instance, and with it a percent or so
    of speed: that is why all are started several times.

    Args:
        heat: what they have in common.
        contestants: the first is the one that the others are compared with.
        say: told what is being done.

    Returns:
        Of each contestant name, flags, parameters, real target tokens and sentences of a round (of all its
        processes), seconds and processor seconds of every round of every start, and bytes of memory (of all its
        processes, in the first start).

    Raises:
        UserError: where a contestant fails.
    """
    order = random.Random(heat.seed)
    laps = []
    for start in range(heat.starts):
        place = f"{heat.shape.name}, start {start + 1} of {heat.starts}: "
        laps.append(_lap(heat, contestants, order, lambda text, place=place: say(place + text)))
    return [
        runs[0] | {key: [one for run in runs for one in run[key]] for key in ("seconds", "cpu_seconds")}
        for runs in zip(*laps, strict=True)
    ]
