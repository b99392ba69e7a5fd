"""A process that decodes with one contestant, one batch each time it is asked."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, utils
from fairseq.models.transformer import TransformerModel
from fairseq.sequence_generator import SequenceGenerator
from torch import nn

from ..common.errors import UserError
from ..common.needs import need
from .leave import TYPES
from .memory import forget_resident_peak, peak_of, resident

__all__ = ["CONTESTANTS", "ON_GPUS", "DecodingJob"]


@dataclass(frozen=True)
class DecodingJob:
    """What one process decodes.

    Attributes:
        name: the contestant's.
        path: of the checkpoint.
        data: folder of binarised data.
        split: of that data.
        sentences: of a batch.
        beam: hypotheses of a sentence.
        batches: how many, taken evenly from the shortest to the longest.
        threads: of torch.
        folder: for what the contestant writes.
        device: cpu or cuda.
        dtype: of the model on a GPU; on a CPU contestants say their type.
    """

    name: str
    path: Path
    data: Path
    split: str
    sentences: int
    beam: int
    batches: int
    threads: int
    folder: str
    device: str
    dtype: str

    def runner(self) -> "DecodingRunner":
        """What answers for it."""
        return CONTESTANTS[self.name](self)


class DecodingRunner:
    """A model with a search. Its public methods are what a process can be asked for."""

    def __init__(self, job: DecodingJob):
        overrides = {"data": str(job.data), "inference_type": self.inference_type}
        models, self.cfg, self.task = checkpoint_utils.load_model_ensemble_and_task(
            [str(job.path)], arg_overrides=overrides
        )
        self.cuda = job.device == "cuda"
        self.samples = self._samples(job)
        self.cfg.generation.beam = job.beam
        self.build(models[0], job)
        self.resident_before = resident("VmRSS")
        forget_resident_peak()

    inference_type = "fp32"

    def _samples(self, job: DecodingJob) -> list[dict[str, Any]]:
        self.task.load_dataset(job.split)
        batches = list(
            self.task.get_batch_iterator(
                self.task.dataset(job.split),
                max_tokens=12000,
                max_sentences=job.sentences,
                required_batch_size_multiple=8,
            ).next_epoch_itr(shuffle=False)
        )
        if len(batches) < job.batches:
            raise UserError(
                f"--batches {job.batches}: {job.split} has {len(batches)} of {job.sentences} sentences"
            )
        taken = (
            batches[(2 * number + 1) * len(batches) // (2 * job.batches)] for number in range(job.batches)
        )
        return [utils.move_to_cuda(batch) if self.cuda else batch for batch in taken]

    def build(self, model: nn.Module, job: DecodingJob) -> None:
        """Get ready to :meth:`decode` with the checkpoint's model."""
        raise NotImplementedError

    def decode(self, sample: dict[str, Any]) -> int:
        """Translate a batch; how many words, of the best hypotheses, with their ends."""
        raise NotImplementedError

    def state(self) -> int:
        """Bytes that stay from batch to batch."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Words and sentences of each batch."""
        return {
            "parameters": self.parameters,
            "tokens": [self.decode(sample) for sample in self.samples],
            "sentences": [sample["nsentences"] for sample in self.samples],
        }

    def step(self, batch: int) -> tuple[float, float]:
        """Seconds of one batch, from its words to all its hypotheses, and of processor time."""
        start, busy = time.perf_counter(), time.process_time()
        self.decode(self.samples[batch])
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - busy

    def memory(self) -> dict[str, int | None]:
        """Bytes: what stays, what the largest batch adds at most (of torch's tensors), the resident set's growth."""
        peak = resident("VmHWM")
        largest = max(self.samples, key=lambda sample: sample["net_input"]["src_tokens"].numel())
        return {
            "state": self.state(),
            "step": peak_of(lambda: self.decode(largest), self.cuda),
            "resident": None if peak is None else peak - self.resident_before,
        }


class _Fairseq(DecodingRunner):
    """fairseq's commands' way: a generator that the task builds."""

    def build(self, model: nn.Module, job: DecodingJob) -> None:
        if self.cuda:
            model.to("cuda", TYPES[job.dtype])
        model.prepare_for_inference_(self.cfg)
        self.models, self.generator = [model], self.task.build_generator([model], self.cfg.generation)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())

    def decode(self, sample: dict[str, Any]) -> int:
        hypotheses = self.task.inference_step(self.generator, self.models, sample)
        return sum(len(one[0]["tokens"]) for one in hypotheses)

    def state(self) -> int:
        tensors = [*self.models[0].parameters(), *self.models[0].buffers(), *_packed(self.models[0])]
        storages = (tensor.untyped_storage() for tensor in tensors)
        held = sum(engine.held() for engine in _engines(self.models[0]) if hasattr(engine, "held"))
        return held + sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _engines(model: nn.Module) -> list[Any]:
    """Those that compute a prepared model's encoder and decoder."""
    forwards = (getattr(stack.forward, "method", None) for stack in (model.encoder, model.decoder))
    engines = (getattr(forward, "__self__", None) for forward in forwards)
    return [engine for engine in engines if hasattr(engine, "packed")]


def _packed(model: nn.Module) -> list[torch.Tensor]:
    """What a prepared model holds besides its parameters."""
    kept = [tensor for engine in _engines(model) for tensor in engine.packed()]
    for module in model.modules():
        product = getattr(module.forward, "product", None)
        kept += [] if product is None else [product.packed]
    return kept


class _Stock(_Fairseq):
    """fairseq's own ``transformer`` and generator, with the checkpoint's parameters."""

    def build(self, model: nn.Module, job: DecodingJob) -> None:
        super().build(self.stock_of(model), job)
        self.generator.__class__ = SequenceGenerator

    def stock_of(self, model: nn.Module) -> nn.Module:
        """fairseq's own model with these parameters.

        Raises:
            UserError: where that is another model: other names, or other logits.
        """
        args = copy.copy(self.cfg.model)
        args.arch = args._name = "transformer"
        stock = TransformerModel.build_model(args, self.task)
        same = stock.state_dict().keys() == model.state_dict().keys()
        if same:
            stock.load_state_dict(model.state_dict())
            same = _logits_agree(stock, model, self.samples[0]["net_input"])
        if not same:
            raise UserError(
                "--contestants stock needs a checkpoint that is a model of fairseq's own: the plain skip with "
                "LayerNorm, Post-LN or Pre-LN; reference takes any"
            )
        return stock


@torch.no_grad()
def _logits_agree(one: nn.Module, other: nn.Module, inputs: dict[str, torch.Tensor]) -> bool:
    """Whether two models compute the same, up to rounding."""
    first, second = (model.eval().to(inputs["src_tokens"].device)(**inputs)[0] for model in (one, other))
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3)


class _Reference(_Fairseq):
    """Our model as fairseq's operations and its generator have it."""

    def build(self, model: nn.Module, job: DecodingJob) -> None:
        args = copy.copy(self.cfg.model)
        args.kernels = "reference"
        reference = type(model).build_model(args, self.task)
        reference.load_state_dict(model.state_dict())
        super().build(reference, job)
        self.generator.__class__ = SequenceGenerator


class _Fast(_Fairseq):
    """What our commands do."""


class _Bf16(_Fast):
    inference_type = "bf16"


class _Int8(_Fast):
    inference_type = "int8"


class _CTranslate2(DecodingRunner):
    """CTranslate2, with the same parameters."""

    compute_type = "float32"

    def build(self, model: nn.Module, job: DecodingJob) -> None:
        need("ctranslate2", "ctranslate2")
        import ctranslate2

        from ..to_ctranslate2 import check, specification

        check(model, self.cfg.model)
        found = specification(model, self.cfg.model, self.task.source_dictionary, self.task.target_dictionary)
        found.validate()
        found.optimize()
        found.save(job.folder)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.translator = ctranslate2.Translator(
            job.folder, compute_type=self.compute_type, intra_threads=job.threads, inter_threads=1
        )
        self.size = Path(job.folder, "model.bin").stat().st_size
        self.beam = job.beam
        self.words = {id(sample): self._words(sample) for sample in self.samples}

    def _words(self, sample: dict[str, Any]) -> list[list[str]]:
        dictionary = self.task.source_dictionary
        ends = (dictionary.pad(), dictionary.eos())
        rows: Sequence[Sequence[int]] = sample["net_input"]["src_tokens"].tolist()
        return [[dictionary[word] for word in row if word not in ends] for row in rows]

    def decode(self, sample: dict[str, Any]) -> int:
        words = self.words[id(sample)]
        found = self.translator.translate_batch(
            words, beam_size=self.beam, length_penalty=1, max_decoding_length=200, max_batch_size=0
        )
        return sum(len(one.hypotheses[0]) + 1 for one in found)

    def state(self) -> int:
        return self.size


class _CTranslate2Int8(_CTranslate2):
    compute_type = "int8"


CONTESTANTS = {
    "stock": _Stock,
    "reference": _Reference,
    "fast": _Fast,
    "fast+bf16": _Bf16,
    "fast+int8": _Int8,
    "ctranslate2": _CTranslate2,
    "ctranslate2+int8": _CTranslate2Int8,
}
ON_GPUS = {"stock", "reference", "fast"}
