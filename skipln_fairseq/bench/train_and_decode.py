"""A process that trains one contestant and decodes with it, as it is asked."""

import copy
import time
from functools import cached_property
from typing import Any

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from .worker import Job, Runner

__all__ = ["SEARCHES", "TrainAndDecodeJob"]

SENTENCES, BEAM, STEPS = 8, 5, 16
SEARCHES = {"sentences": SENTENCES, "hypotheses": BEAM, "steps": STEPS}
"""Models that were hardly trained end their sentences anywhere, or nowhere: all searches have this many steps."""


class TrainAndDecodeJob(Job):
    """A :class:`.Job` that decodes too."""

    def runner(self) -> "TrainAndDecode":
        return TrainAndDecode(self)


class TrainAndDecode(Runner):
    """A model in training, and beside it a copy that ``fairseq-generate`` would search with."""

    def decode(self, batch: int) -> tuple[float, float]:
        """Seconds of a beam search of ``STEPS`` steps, the encoder's work included, and of processor time."""
        generator, models, samples = self.search
        start, busy = time.perf_counter(), time.process_time()
        self.trainer.task.inference_step(generator, models, samples[batch])
        return time.perf_counter() - start, time.process_time() - busy

    @cached_property
    def search(self) -> tuple[Any, list[Any], list[dict[str, Any]]]:
        """The search, its model with the numbers of this moment, and for each batch some of its sentences."""
        flags = ("nowhere", "--beam", str(BEAM), "--min-len", str(STEPS - 1), "--max-len-b", str(STEPS - 1))
        args = options.parse_args_and_arch(options.get_generation_parser(), ["--path", "none", *flags])
        cfg = convert_namespace_to_omegaconf(args)
        model = copy.deepcopy(self.trainer.get_model()).eval()
        model.prepare_for_inference_(cfg)
        generator = self.trainer.task.build_generator([model], cfg.generation)
        return generator, [model], [_some(sample) for sample in self.samples]


def _some(sample: dict[str, Any]) -> dict[str, Any]:
    """The first sentences of a batch."""
    source = {name: sample["net_input"][name][:SENTENCES] for name in ("src_tokens", "src_lengths")}
    return {"net_input": source}
