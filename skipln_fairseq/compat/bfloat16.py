"""``fairseq-train --bf16`` trains on a CPU: weights and activations in bfloat16, sums and masters in float32.

fairseq takes the flag for a wish for a TPU and dies where there is none. Three things more would be wrong:

* Gradients of ``--update-freq`` batches and of several processes add up in bfloat16, which has 8 bits.
* A checkpoint holds the rounded weights only, so a resumed run is another one.
* torch adds up the gradients of embeddings, and of layer norms' gains and biases, in bfloat16: 4096 ones are 256.
  (Learned positions look up their rows in a way of their own, and go on to.)

On a processor that does not multiply bfloat16 the model computes in float32 instead, from the same rounded first
weights: torch's products of bfloat16 are slower there than those of float32 (with AVX2, ``F.linear`` of 1,800 rows of
128 to 512 numbers: 4 to 14 times). Checkpoints have the same form, so a run may move between processors.

``--memory-efficient-bf16`` is, as in fairseq, for who wants no float32 masters and no float32 gradients. It computes in
bfloat16 on every processor.
"""

import logging
import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from fairseq import optim, options, utils
from fairseq.distributed import LegacyDistributedDataParallel
from fairseq.trainer import Trainer
from torch import Tensor, nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around
from skipln_fairseq.nn.embedding.fixnorm import UnitEmbedding
from skipln_fairseq.nn.plain import same_as_class

__all__ = ["BF16Optimizer", "apply", "multiplies_bfloat16"]

logger = logging.getLogger(__name__)

MASTERS = "fp32_params"
LACKS = "this processor does not multiply bfloat16 (AVX512_BF16, AMX or Arm's BF16 would)"
CPUINFO = Path("/proc/cpuinfo")


def apply() -> None:
    """Leave TPUs to those who have one, and train as told above where the model is on a CPU.

    All commands look ``options.parse_args_and_arch`` up when they have imported this package.
    """

    @around(options, "parse_args_and_arch")
    def parse_args_and_arch(
        stock, parser: ArgumentParser, input_args: list[str] | None = None, *args: Any, **kwargs: Any
    ) -> Namespace | tuple[Namespace, list[str]]:
        parsed = stock(parser, input_args, *args, **kwargs)
        flags = parsed[0] if isinstance(parsed, tuple) else parsed
        wants_tpu = "--tpu" in (sys.argv if input_args is None else input_args)
        if getattr(flags, "bf16", False):
            if not any(hasattr(flags, name) for name in ("max_update", "beam", "context_window")):
                raise UserError("--bf16 is for training and decoding; this command computes in float32")
            flags.tpu = wants_tpu or not (flags.cpu or utils.xm is None)
        on_cpu = getattr(flags, "cpu", False) or not torch.cuda.is_available()
        for name in ("fp16", "amp"):
            if getattr(flags, name, False) and on_cpu and hasattr(flags, "max_update"):
                raise UserError(f"--{name} needs a GPU; on a CPU train with --cpu, in float32 or with --bf16")
        return parsed

    @around(Trainer, "__init__")
    def initialise(stock, self: Trainer, cfg: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, cfg, *args, **kwargs)
        if not self.cfg.common.bf16 or self.device.type != "cpu":
            return
        slow = not multiplies_bfloat16(CPUINFO)
        if slow and not self.cfg.common.memory_efficient_bf16:
            logger.warning(f"--bf16: {LACKS}, so the model computes in float32")
            compute_in_single(self)
            return
        if slow:
            logger.warning(f"--memory-efficient-bf16: {LACKS}, so training is slower than in float32")
        sum_gradients_in_single(self.get_model())

    @around(optim.FP16Optimizer, "build_optimizer")
    def build_optimizer(
        stock, cls: type[optim.FP16Optimizer], cfg: Any, params: list[nn.Parameter], **kwargs: Any
    ) -> optim.FP16Optimizer:
        if (
            cls is optim.FP16Optimizer
            and getattr(cfg.common, "bf16", False)
            and params[0].device.type == "cpu"
        ):
            return BF16Optimizer(cfg, params, **kwargs)
        return stock(cls, cfg, params, **kwargs)


def multiplies_bfloat16(cpuinfo: Path) -> bool:
    """Whether the processor does, as Linux says; where that says nothing it is taken to."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return True
    return found is None or not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(found[1].split())


def compute_in_single(trainer: Trainer) -> None:
    """Let a trainer's model and criterion compute in float32; what else ``--bf16`` means stays."""
    trainer.get_model().float()
    trainer.get_criterion().float()
    trainer._fp_convert_sample = lambda sample: sample  # which would round what a batch has of float32


class BF16Optimizer(optim.FP16Optimizer):
    """Updates float32 masters with float32 gradients, and rounds them to the model's bfloat16 parameters.

    After each backward the gradients move over to the masters, so that whatever is summed after that, over batches
    and over processes, is summed there.
    """

    def __init__(self, cfg: Any, params: list[nn.Parameter], **kwargs: Any):
        masters = self.build_fp32_params(cfg.optimizer, params, flatten=False)
        super().__init__(cfg, params, optim.build_optimizer(cfg.optimizer, masters), masters, **kwargs)

    def backward(self, loss: Tensor) -> None:
        loss.backward()
        for parameter, master in zip(self.fp16_params, self.fp32_params, strict=True):
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    def zero_grad(self) -> None:
        for tensor in (*self.fp16_params, *self.fp32_params):
            tensor.grad = None

    def _sync_fp16_grads_to_fp32(self) -> None:
        """Nothing is left to do: ``backward`` has."""

    def all_reduce_grads(self, module: nn.Module) -> None:
        """The mean over processes of the masters' gradients, as fairseq takes it of the parameters'."""
        masters = dict(zip(self.fp16_params, self.fp32_params, strict=True))
        own = nn.ParameterList(masters[p] for p in module.parameters() if p in masters)
        if hasattr(module, "average_wholes"):  # a sharded model
            module.average_wholes(own)
        elif hasattr(module, "all_reduce_grads"):
            LegacyDistributedDataParallel(own, module.process_group).all_reduce_grads()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), MASTERS: [master.detach() for master in self.fp32_params]}

    def load_state_dict(
        self, state_dict: dict[str, Any], optimizer_overrides: dict[str, Any] | None = None
    ) -> None:
        super().load_state_dict(state_dict, optimizer_overrides)
        with torch.no_grad():
            for master, saved in zip(self.fp32_params, state_dict[MASTERS], strict=True):
                master.copy_(saved)


def sum_gradients_in_single(model: nn.Module) -> None:
    """Let a model's layer norms and embeddings add up their gradients in float32.

    Only in this instance: a model's class must go on to script.
    """
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) and module.weight is not None:
            module.forward = MethodType(layer_norm, module)
        elif isinstance(module, nn.Embedding) and type(module).forward is nn.Embedding.forward:
            module.forward = MethodType(embedding, module)
        elif isinstance(module, UnitEmbedding):
            module.rows = MethodType(embedding, module)


@same_as_class
def layer_norm(self: nn.LayerNorm, v: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """LayerNorm of any input, computed in single precision and given back in the input's type; no mask is needed."""
    weight, bias = self.weight.float(), self.bias.float()
    return F.layer_norm(v.float(), self.normalized_shape, weight, bias, self.eps).to(v.dtype)


@same_as_class
def embedding(self: nn.Embedding, tokens: Tensor) -> Tensor:
    """The tokens' rows, whose gradients are summed by :class:`Lookup`."""
    return Lookup.apply(tokens, self.weight, -1 if self.padding_idx is None else self.padding_idx)


class Lookup(torch.autograd.Function):
    """Rows of a matrix by their numbers; the gradient of a row is the sum over its uses, rounded once."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, padding_idx: int) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows, ctx.padding_idx = weight.size(0), padding_idx
        return F.embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (tokens,) = ctx.saved_tensors
        total = torch.ops.aten.embedding_dense_backward(
            gradient.float(), tokens, ctx.rows, ctx.padding_idx, False
        )
        return None, total.to(gradient.dtype), None
