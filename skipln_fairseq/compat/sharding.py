"""``--ddp-backend fully_sharded`` shards by torch's own ``fully_shard``, on GPUs and on CPUs.

fairseq shards by fairscale, which is no longer maintained and asks CUDA for each parameter; where it is not installed,
the flag ends in a traceback. fairseq's way is never taken here, installed or not, so that a run depends on the flag
alone. What fairseq asks of its optimizers and checkpoints stays as without sharding: a checkpoint is one whole file,
which one process, or any number of them, sharded or not, goes on from.
"""

import contextlib
import logging
import sys
from argparse import Namespace
from types import ModuleType
from typing import Any

from fairseq import models, utils
from fairseq.models import BaseFairseqModel
from fairseq.trainer import Trainer
from torch import Tensor, nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around, command

__all__ = ["apply", "refuse_beside_sharding"]

logger = logging.getLogger(__name__)

OPTIMIZERS = ("adadelta", "adagrad", "adam", "adamax", "nag", "sgd")
"""Of fairseq's those that know no more of a parameter than its numbers, each for itself."""

HALF = "it trains in float32, or with --bf16"
LAYERS = "each process would drop other layers, and wait for ever for the parts of the others"
NOT_BESIDE = {
    "fp16": HALF,
    "amp": HALF,
    "store_ema": "a second model is kept whole in each process",
    "fp16_adam_stats": "apex's Adam knows no shards",
    "eval_bleu": "translations end at other steps in each process; score the checkpoints with fairseq-generate",
    "adaptive_softmax_cutoff": "the criterion reads parameters that are not put together for it",
    "encoder_layerdrop": LAYERS,
    "decoder_layerdrop": LAYERS,
    "quant_noise_pq": "it changes weights where they are read",
    "use_bmuf": "each process has another model there",
    "pipeline_model_parallel": "that is another way to divide a model",
    "cpu_offload": "it is fairscale's",
    "use_sharded_state": "a checkpoint is one whole file",
    "fp32_reduce_scatter": "gradients are summed in float32 without it",
    "not_fsdp_flatten_parameters": "nothing is flattened without it",
}
"""Flags of training, and why sharding does not go with them."""


def refuse_beside_sharding(flags: Namespace) -> None:
    """What a sharded training cannot do, or what would be silently left out.

    Raises:
        UserError: it names the flag and says why.
    """
    if flags.ddp_backend != "fully_sharded":
        return
    for flag, reason in NOT_BESIDE.items():
        if getattr(flags, flag, None):
            raise UserError(
                f"--ddp-backend fully_sharded does not go with --{flag.replace('_', '-')}: {reason}"
            )
    if flags.zero_sharding != "none":
        raise UserError(
            "--ddp-backend fully_sharded does not go with --zero-sharding: the optimizer is sharded without it"
        )
    if flags.optimizer not in OPTIMIZERS:
        raise UserError(
            f"--ddp-backend fully_sharded with --optimizer {flags.optimizer}: valid are {', '.join(OPTIMIZERS)}"
        )
    flags.use_old_adam = True  # where it finds apex, fairseq would take its, which knows no shards


def apply() -> None:
    """Take the place of fairscale, in the trainer and where ``fairseq-train`` builds the model."""
    _leave_fairscale_out()
    _shard_the_model()
    _clip_shards()
    _save_wholes()
    _load_parts()


def _shards() -> ModuleType:
    """Imported when it is needed: torch's part of it takes half a second, which no other command should."""
    from skipln_fairseq.compat import shards

    return shards


def _is_sharded(trainer: Trainer) -> bool:
    return trainer.cfg.distributed_training.ddp_backend == "fully_sharded" and trainer.use_distributed_wrapper


def _leave_fairscale_out() -> None:
    """By ``is_fsdp`` the trainer asks whether the model is fairscale's. Nor is anything wrapped while it is built."""
    Trainer.is_fsdp = property(lambda self: False)

    for train in command("fairseq_cli.train"):

        @around(train, "fsdp_enable_wrap")
        def fsdp_enable_wrap(stock, cfg: Any) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()


def _shard_the_model() -> None:
    @around(models, "DistributedFairseqModel")
    def wrap(stock, args: Any, model: nn.Module, process_group: Any, device: Any) -> nn.Module:
        if args.ddp_backend != "fully_sharded":
            return stock(args, model, process_group, device)
        if not isinstance(model, BaseFairseqModel):
            raise UserError(f"--ddp-backend fully_sharded: {type(model).__name__} has parameters of its own")
        model = _shards().ShardedModel(model.to(device), process_group, not args.no_reshard_after_forward)
        logger.info(f"--ddp-backend fully_sharded: {model.holds()}")
        return model


def _clip_shards() -> None:
    @around(utils, "clip_grad_norm_")
    def clip_grad_norm_(stock, params: Any, max_norm: float, aggregate_norm_fn: Any = None) -> Tensor:
        params = [params] if isinstance(params, Tensor) else list(params)
        gradients = [one.grad for one in params if one.grad is not None]
        if not any(hasattr(one, "device_mesh") for one in gradients):
            return stock(params, max_norm, aggregate_norm_fn)
        return _shards().clip(gradients, float(max_norm))


def _save_wholes() -> None:
    """All processes gather before one of them saves."""

    @around(Trainer, "consolidate_optimizer")
    def consolidate_optimizer(stock, self: Trainer) -> None:
        stock(self)
        self.gathered_model = None
        # what fails in one process only, the others do not come here for: then there is nothing to save
        if _is_sharded(self) and sys.exc_info()[0] is None:
            self.gathered_model = _shards().whole(self.model.state_dict())
            if not self.cfg.checkpoint.no_save_optimizer_state:
                self._gathered_optim_state = _shards().whole(self.optimizer.state_dict())

    @around(Trainer, "save_checkpoint")
    def save_checkpoint(stock, self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if _is_sharded(self) and self.gathered_model is None:
            return None
        return stock(self, *args, **kwargs)

    @around(Trainer, "state_dict")
    def state_dict(stock, self: Trainer) -> dict[str, Any]:
        state = stock(self)
        if _is_sharded(self):
            state["model"], self.gathered_model = self.gathered_model, None
        return state


def _load_parts() -> None:
    """An optimizer takes its parts of a whole state. A model does so itself."""

    @around(Trainer, "_build_optimizer")
    def build_optimizer(stock, self: Trainer) -> None:
        stock(self)
        if _is_sharded(self):
            load = self.optimizer.load_state_dict

            def load_state_dict(state: dict[str, Any], overrides: dict[str, Any] | None = None) -> None:
                load(_shards().parts_of_state(state, list(self.optimizer.params)), overrides)

            self.optimizer.load_state_dict = load_state_dict
