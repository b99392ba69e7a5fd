"""An update of a training on fake tensors, and what is seen in it. :func:`.pretend.load` has been called before."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from fairseq import criterions
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.trainer import Trainer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from skipln_fairseq.bench.contestants import DTYPES, Contestant, contestant
from skipln_fairseq.bench.family import members
from skipln_fairseq.bench.worker import TRAINING
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.probe.batch import RandomTask, random_batch
from skipln_fairseq.probe.subject import Batch, Variant, parse

from . import pretend
from .watch import Watch

__all__ = ["FAMILY", "STOCK", "Found", "update"]

SIZE = (
    *("--encoder-layers", "2", "--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "64"),
    *("--decoder-layers", "2", "--encoder-attention-heads", "4", "--decoder-attention-heads", "4"),
)
STOCK = contestant("stock")
FAMILY = (
    *members(),
    contestant("fused: --arch transformer_rskip --criterion fused_label_smoothed_cross_entropy"),
    contestant("reference: --arch transformer_rskip --kernels reference"),
    contestant("drop-path: --arch transformer_rskip --drop-path 0.2"),
    contestant("favor: --arch transformer_rskip --attention-type favor"),
)
"""Every member as its row has it, and what is on no axis of the family."""
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Found:
    """What was seen in one update.

    Attributes:
        wrong: what has the wrong device or type, or the error that ended the update; empty where all is well.
        waits: see :class:`.watch.Watch`.
        copies: see there.
        kernels: see there.
    """

    wrong: list[str]
    waits: Counter
    copies: Counter
    kernels: Counter


def _trainer(one: Contestant) -> tuple[Trainer, dict]:
    """fairseq's trainer of a small model that is still on the CPU, and a batch with padding on both sides."""
    args = parse(Variant(one.name, (*TRAINING, *SIZE, *one.flags)), Batch())
    cfg = convert_namespace_to_omegaconf(args)
    task = RandomTask(40)
    model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
    trainer = Trainer(cfg, task, model, criterions.build_criterion(cfg.criterion, task))
    sample = random_batch(task, sentences=3, length=7, seed=1)
    inputs = sample["net_input"]
    inputs["src_tokens"][0, :3] = inputs["prev_output_tokens"][1, 5:] = sample["target"][1, 5:] = 1
    return trainer, sample


def _wrong(trainer: Trainer, dtype: torch.dtype) -> Iterator[str]:
    """Parameters, buffers and gradients that are elsewhere or otherwise than the training wants."""
    model = trainer.get_model()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "cuda":
            yield f"{name} is on {tensor.device}"
    for name, parameter in model.named_parameters():
        for what, tensor in ((name, parameter), (f"the gradient of {name}", parameter.grad)):
            if tensor is not None and (tensor.dtype, tensor.device.type) != (dtype, "cuda"):
                yield f"{what} is {tensor.dtype} on {tensor.device}"
    for group in trainer.optimizer.optimizer.param_groups:
        for parameter in group["params"]:
            state = trainer.optimizer.optimizer.state[parameter].values()
            for tensor in (parameter, *filter(torch.is_tensor, state)):
                if tensor.dim() and (tensor.dtype, tensor.device.type) != (torch.float32, "cuda"):
                    yield f"the optimizer has {tensor.dtype} on {tensor.device}"


def _watch_layers(model: nn.Module, dtype: torch.dtype, wrong: list[str]) -> None:
    """Note each layer whose output is not of the training's type."""

    def look(name):
        def hook(module, inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            if first.dtype != dtype or first.device.type != "cuda":
                wrong.append(f"the output of {name} is {first.dtype} on {first.device}")

        return hook

    for side in (model.encoder, model.decoder):
        for number, layer in enumerate(side.layers):
            layer.register_forward_hook(look(f"{type(side).__name__}'s layer {number}"))
    model.decoder.register_forward_hook(look("the decoder"))


def update(one: Contestant, name: str) -> Found:
    """The second update of a training: what is made once has been made in the first.

    Args:
        one: what is trained.
        name: of a type, one of ``TYPES``.

    Raises:
        UserError: for a training that is refused.
    """
    one, dtype = reduce(type(one).changed, DTYPES[name], one), TYPES[name]
    wrong: list[str] = []
    with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch, pretend.answers():
        try:
            trainer, sample = _trainer(one)
            _watch_layers(trainer.get_model(), dtype, wrong)
            trainer.train_step([sample])
            watch.clear()
            trainer.train_step([sample])
            wrong += _wrong(trainer, dtype)
        except UserError:
            raise
        except Exception as error:
            logging.getLogger(__name__).debug("", exc_info=error)
            wrong.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
    wrong += [f"float64: {place}" for place, count in watch.doubles.items() if count]
    return Found(list(dict.fromkeys(wrong)), +watch.waits, +watch.copies, watch.kernels)
