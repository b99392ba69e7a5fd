"""Models as ``fairseq-generate`` and its like use them: projections joined, weights in the type that was asked for."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from fairseq import checkpoint_utils
from torch import nn

from ..compat.patch import around
from ..errors import UserError
from ..nn.kernels.decode import has_tiles
from ..nn.linear import Int8Linear, ProductLinear
from .engine import Engine, Unknown
from .fast_attention import FastAttention

logger = logging.getLogger(__name__)

__all__ = ["INFERENCE_TYPES", "InferenceModel"]


def _linears(model: nn.Module) -> list[nn.Linear]:
    joined = [one for module in model.modules() if isinstance(module, FastAttention) for one in module.join()]
    return [
        one for one in (*joined, *model.modules()) if type(one) is nn.Linear and not one._forward_pre_hooks
    ]


def _by_tiles(model: nn.Module, form: str) -> None:
    """Products by tiles, and whole decoding steps in one call where that is known."""
    rest = model
    try:
        Engine(model.decoder, form)
        rest = model.encoder
    except Unknown as what:
        logger.info(f"decoding layer by layer: a step in one call does not know {what}")
    if has_tiles() and next(model.parameters()).dtype == torch.float32:
        for linear in _linears(rest):
            ProductLinear.take(linear, form)


def _fp32(model: nn.Module) -> None:
    # Where dropout is retained, two roundings of one product are soon two beams, and then all later draws are others.
    if not any(getattr(module, "apply_during_inference", False) for module in model.modules()):
        _by_tiles(model, "fp32")


def _bf16(model: nn.Module) -> None:
    if not has_tiles() or next(model.parameters()).device.type != "cpu":
        model.to(torch.bfloat16)
    _by_tiles(model, "bf16")


def _int8(model: nn.Module) -> None:
    if next(model.parameters()).device.type != "cpu":
        raise UserError("--int8 is for CPUs; on a GPU decode with --fp16")
    if has_tiles():
        return _by_tiles(model, "int8")
    for linear in _linears(model):
        Int8Linear.take(linear)


INFERENCE_TYPES: dict[str, Callable[[nn.Module], None]] = {"fp32": _fp32, "bf16": _bf16, "int8": _int8}
"""How a model that is only decoded with may hold its weights; ``--fp16`` is fairseq's own, and stays as it is."""


class InferenceModel:
    """Mixed into a model: what fairseq's commands do before they decode makes ours quick too.

    Checkpoints and state dicts stay what they were; the model in memory can no longer be trained.
    """

    inference_type = "fp32"

    def make_generation_fast_(self, **kwargs: Any) -> None:
        if self._is_generation_fast:
            return
        super().make_generation_fast_(**kwargs)
        INFERENCE_TYPES[self.inference_type](self)

        def train(mode: bool = True) -> nn.Module:
            if mode:
                raise UserError(
                    "this model was prepared for inference and cannot be trained any more: load it again"
                )
            return self

        self.train = train


def with_inference_type(model: nn.Module, args: Any) -> nn.Module:
    """The model, told what to become when it is prepared for inference.

    Raises:
        UserError: for an unknown type.
    """
    chosen = getattr(args, "inference_type", None) or "fp32"
    if chosen not in INFERENCE_TYPES:
        raise UserError(f"inference_type {chosen}: valid are {', '.join(INFERENCE_TYPES)}")
    model.inference_type = chosen
    return model


@around(checkpoint_utils, "load_model_ensemble_and_task")
def load_model_ensemble_and_task(
    stock, filenames: list[str], arg_overrides: dict[str, Any] | None = None, *args: Any, **kwargs: Any
) -> Any:
    """Load; refuse what a model that is not ours would pass over in silence."""
    found = stock(filenames, arg_overrides, *args, **kwargs)
    if (arg_overrides or {}).get("inference_type"):
        for model in found[0]:
            if not isinstance(model, InferenceModel):
                raise UserError(
                    f"--int8 and --bf16 are for the models of skipln_fairseq, not for {type(model).__name__}"
                )
    return found
