"""A process that trains one contestant, one step each time it is asked, with fairseq's own ``Trainer``."""

import logging
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from fairseq import criterions
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.trainer import Trainer
from torch.profiler import ProfilerActivity, profile

from ..common.errors import UserError
from ..probe.batch import RandomTask
from ..probe.subject import Batch, Variant, parse
from . import naive  # noqa: F401  (registers its architecture)
from .batches import corpus, draw
from .compiled import compile_model
from .lengths import Pairs
from .memory import forget_resident_peak, peak_of, resident, state

__all__ = ["Failure", "Job", "Runner", "serve"]

TRAINING = (
    *("--optimizer", "adam", "--adam-betas", "(0.9,0.98)", "--lr", "1e-4", "--dropout", "0.1"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
)
"""Flags of every contestant. The learning rate is low because random words cannot be learnt, only diverged on."""

logger = logging.getLogger()


@dataclass(frozen=True)
class Job:
    """What one process trains.

    Attributes:
        name: the contestant's.
        flags: of fairseq-train: dimensions first, the contestant's own last.
        words: of the vocabulary, besides fairseq's special symbols.
        lengths: of the corpus.
        max_tokens: of a batch.
        batches: how many.
        seed: of the parameters, the words and the batches.
        threads: of torch.
        device: cpu or cuda.
        folder: for what the processes of one contestant share.
        rank: of this process among them.
        processes: how many they are.
        compiled: whether ``torch.compile`` has the model, see :mod:`.compiled`.
    """

    name: str
    flags: tuple[str, ...]
    words: int
    lengths: Pairs
    max_tokens: int
    batches: int
    seed: int
    threads: int
    device: str
    folder: str
    rank: int = 0
    processes: int = 1
    compiled: bool = False

    def runner(self) -> "Runner":
        """What answers for it."""
        return Runner(self)

    def all_flags(self) -> tuple[str, ...]:
        """The flags of fairseq-train that this process stands for."""
        return (
            *TRAINING,
            *("--seed", str(self.seed), "--max-tokens", str(self.max_tokens), "--save-dir", self.folder),
            *(() if self.device == "cuda" else ("--cpu",)),
            *(self._distributed() if self.processes > 1 else ()),
            *self.flags,
        )

    def _distributed(self) -> tuple[str, ...]:
        return (
            *("--distributed-world-size", str(self.processes), "--distributed-rank", str(self.rank)),
            *("--distributed-init-method", f"file://{self.folder}/meeting-point", "--distributed-no-spawn"),
            *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"),
        )


@dataclass(frozen=True)
class Failure:
    """One line about what a process could not do."""

    message: str


class Runner:
    """A model in training. Its public methods are what a process can be asked for."""

    def __init__(self, job: Job):
        args = parse(Variant(job.name, job.all_flags()), Batch())
        cfg = convert_namespace_to_omegaconf(args)
        self.cuda = job.device == "cuda"
        if job.processes > 1:
            distributed_utils.distributed_init(cfg)
            logger.setLevel(logging.ERROR)  # fairseq has just raised it
        task = RandomTask(job.words)
        torch.manual_seed(job.seed)
        model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
        if job.compiled:
            compile_model(model)
        criterion = criterions.build_criterion(cfg.criterion, task)
        self.trainer = Trainer(cfg, task, model, criterion)
        self.trainer.cuda_env = None  # or it would set back torch's record of the most memory in use
        data = corpus(job.lengths, task.dictionary, job.seed)
        self.samples = draw(data, job.max_tokens, job.seed, job.batches, job.rank, job.processes)
        self.resident_before = resident("VmRSS")
        forget_resident_peak()

    def describe(self) -> dict[str, Any]:
        """Parameters, and the real target tokens and the sentences of each batch."""
        return {
            "parameters": sum(p.numel() for p in self.trainer.get_model().parameters()),
            "tokens": [sample["ntokens"] for sample in self.samples],
            "sentences": [sample["nsentences"] for sample in self.samples],
        }

    def step(self, batch: int) -> tuple[float, float]:
        """Seconds of one update (forward, backward, the gradient's norm and the optimiser), and of processor time."""
        start, busy = time.perf_counter(), time.process_time()
        self.trainer.train_step([self.samples[batch]])
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - busy

    def profile(self, batch: int) -> dict[str, float]:
        """Milliseconds of each operator itself in one update."""
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]
        with profile(activities=activities) as recorded:
            self.step(batch)
        field = "self_device_time_total" if self.cuda else "self_cpu_time_total"
        return {event.key: getattr(event, field) / 1000 for event in recorded.key_averages()}

    def memory(self) -> dict[str, int | None]:
        """Bytes: what stays from step to step, what the largest batch's step adds at most, and the resident set's
        growth over all steps so far."""
        peak = resident("VmHWM")  # before the profiler adds its own
        largest = max(range(len(self.samples)), key=lambda i: self.samples[i]["target"].numel())
        self.trainer.zero_grad()
        return {
            "state": state(self.trainer),
            "step": peak_of(lambda: self.step(largest), self.cuda),
            "resident": None if peak is None else peak - self.resident_before,
        }


def _one_line(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def serve(connection: Connection, job: Job) -> None:
    """Answer ``(method of Runner, arguments)`` until the other end is closed, or something fails."""
    torch.set_num_threads(job.threads)
    logger.setLevel(logging.ERROR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # fairseq's and torch's warnings; errors go through the connection
        os.dup2(nowhere, descriptor)
    try:
        runner = job.runner()
        connection.send(runner.describe())
        while True:
            method, *arguments = connection.recv()
            connection.send(getattr(runner, method)(*arguments))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        connection.send(Failure(_one_line(error)))
