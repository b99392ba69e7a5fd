"""A comparison: all contestants as processes of one tree, all ready, one at a time asked for a step."""

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL
from types import MappingProxyType
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
        jobs: what a process does.
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
    jobs: type[Job] = Job

    def job(self, contestant: Contestant, rank: int, folder: str) -> Job:
        """What one process of a contestant does."""
        return self.jobs(
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
            compiled=contestant.compiled,
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


Times = dict[str, float]
"""What a team took in a round: of each kind of work its seconds and its processor seconds."""


def _round(
    teams: Sequence[Team], works: Mapping[str, str], batches: int, order: random.Random
) -> list[Times]:
    """What each team took for each kind of work with every batch.

    Of a team's processes the slowest one's seconds count, and the processor seconds of all.
    """
    found = [dict.fromkeys(_keys(works), 0.0) for _ in teams]
    for batch in range(batches):
        for prefix, method in works.items():
            for turn in order.sample(range(len(teams)), len(teams)):
                time.sleep(PAUSE)
                answers = teams[turn].ask(method, batch)
                found[turn][f"{prefix}seconds"] += max(answer[0] for answer in answers)
                found[turn][f"{prefix}cpu_seconds"] += sum(answer[1] for answer in answers)
    return found


def _keys(works: Iterable[str]) -> list[str]:
    return [f"{prefix}{kind}" for prefix in works for kind in ("seconds", "cpu_seconds")]


def _lap(
    heat: Heat,
    contestants: Sequence[Contestant],
    works: Mapping[str, str],
    order: random.Random,
    say: Callable[[str], object],
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
            _round(teams, works, heat.batches, order)
        rounds = []
        for number in range(heat.rounds):
            say(f"round {number + 1} of {heat.rounds}")
            rounds.append(_round(teams, works, heat.batches, order))
        say("memory")
        memory = [team.ask("memory") for team in teams]
    return [
        {
            "contestant": one.name,
            "flags": " ".join(one.flags),
            "parameters": team.first[0]["parameters"],
            "tokens": sum(sum(answer["tokens"]) for answer in team.first),
            "sentences": sum(sum(answer["sentences"]) for answer in team.first),
            **{key: [times[key] for times in timed] for key in _keys(works)},
            "bytes": {key: _together(held, key) for key in ("state", "step", "resident")},
        }
        for one, team, timed, held in zip(contestants, teams, zip(*rounds, strict=True), memory, strict=True)
    ]


def race(
    heat: Heat,
    contestants: Sequence[Contestant],
    say: Callable[[str], object] = lambda text: None,
    works: Mapping[str, str] = MappingProxyType({"": "step"}),
) -> list[dict[str, Any]]:
    """Let all contestants work side by side.

    A process keeps for its life what chance gave it, its place in memory for instance, and with it a percent or so
    of speed: that is why all are started several times.

    Args:
        heat: what they have in common.
        contestants: the first is the one that the others are compared with.
        say: told what is being done.
        works: what is timed, by methods of what answers in the processes, each with a prefix for its times.

    Returns:
        Of each contestant name, flags, parameters, real target tokens and sentences of a round (of all its
        processes), ``seconds`` and ``cpu_seconds`` of every round of every start, with the prefix of each kind of
        work, and bytes of memory (of all its processes, in the first start).

    Raises:
        UserError: where a contestant fails.
    """
    order = random.Random(heat.seed)
    laps = []
    for start in range(heat.starts):
        place = f"{heat.shape.name}, start {start + 1} of {heat.starts}: "
        laps.append(_lap(heat, contestants, works, order, lambda text, place=place: say(place + text)))
    return [
        runs[0] | {key: [one for run in runs for one in run[key]] for key in _keys(works)}
        for runs in zip(*laps, strict=True)
    ]
