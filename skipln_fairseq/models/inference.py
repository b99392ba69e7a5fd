"""Models as ``fairseq-generate`` and its like use them: projections joined, weights in the type that was asked for."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from fairseq import checkpoint_utils
from torch import nn

from ..common.errors import UserError
from ..compat.patch import around
from ..nn.kernels.decode import kind
from ..nn.linear import Int8Forward, ProductForward
from ..nn.plain import is_plain
from .connected import retains_dropout
from .encoder_engine import EncoderEngine
from .engine import Engine
from .fast_attention import FastAttention
from .follow import Preparation, TakeBack
from .reading import Unknown
from .searcher import Searcher

logger = logging.getLogger(__name__)

__all__ = ["INFERENCE_TYPES", "InferenceModel"]


def _linears(parts: Sequence[nn.Module]) -> list[nn.Linear]:
    modules = [module for part in parts for module in part.modules()]
    joined = [one for module in modules if isinstance(module, FastAttention) for one in module.join()]
    return [one for one in (*joined, *modules) if is_plain(one, nn.Linear)]


def _parted(model: nn.Module) -> TakeBack:
    def take_back() -> None:
        for module in model.modules():
            if isinstance(module, FastAttention):
                module.part()

    return take_back


def _in_float32_here(model: nn.Module) -> bool:
    like = next(model.parameters())
    return like.dtype == torch.float32 and like.device.type == "cpu"


def _by_products(model: nn.Module, form: str) -> list[TakeBack]:
    """Products in C; encoder, decoding steps and whole searches in one call where they are known."""
    engines = _engines(model, form)
    done = [one.take_back for one in engines.values()]
    if len(engines) == 2:
        done.append(Searcher(*engines.values()).take_back)
    if kind() and _in_float32_here(model):
        rest = [module for name, module in model.named_children() if name not in engines]
        done.append(_parted(model))
        done += [ProductForward(linear, form).give_back for linear in _linears(rest)]
    return done


def _engines(model: nn.Module, form: str) -> dict[str, EncoderEngine | Engine]:
    """Of those of its stacks which the kernels know; the log says what they do not know of the others."""
    found = {}
    for name, engine, what in (
        ("encoder", EncoderEngine, "encoding layer by layer: an encoder"),
        ("decoder", Engine, "decoding layer by layer: a step"),
    ):
        stack = getattr(model, name, None)
        try:
            if stack is not None:
                found[name] = engine(stack, form)
        except Unknown as why:
            logger.info(f"{what} in one call does not know {why}")
    return found


def _left_to_fairseq(reason: str) -> list[TakeBack]:
    logger.info(f"decoding layer by layer with fairseq's products: {reason}")
    return []


def _fp32(model: nn.Module) -> list[TakeBack]:
    # The reference is fairseq's products too. And where dropout is retained, two roundings of one product are soon two
    # beams, and then all later draws are others.
    if model.kernels == "reference":
        return _left_to_fairseq("--kernels reference")
    if retains_dropout(model):
        return _left_to_fairseq("dropout is retained")
    return _by_products(model, "fp32")


def _bf16(model: nn.Module) -> list[TakeBack]:
    if not (kind() and _in_float32_here(model)):
        model.to(torch.bfloat16)
    return _by_products(model, "bf16")


def _int8(model: nn.Module) -> list[TakeBack]:
    if not _in_float32_here(model):
        raise UserError("--int8 is for models in float32 on CPUs; on a GPU decode with --fp16")
    if kind():
        return _by_products(model, "int8")
    return [_parted(model), *(Int8Forward(linear).give_back for linear in _linears([model]))]


INFERENCE_TYPES: dict[str, Callable[[nn.Module], list[TakeBack]]] = {
    "fp32": _fp32,
    "bf16": _bf16,
    "int8": _int8,
}
"""How a model that is only decoded with may hold its weights, and what takes that back; ``--fp16`` is fairseq's own,
and stays as it is."""


class InferenceModel:
    """Mixed into a model: what fairseq's commands do before they decode makes ours quick too.

    Checkpoints and state dicts stay what they were; the model in memory can no longer be trained. What is prepared
    follows the model (:class:`.Preparation`): one whose parameters, modules, attributes or hooks were changed is
    prepared anew when its next batch begins, as far as it still can be; one that is scripted is taken back to what it
    was.
    """

    inference_type = "fp32"
    kernels = "fast"
    _preparation = None  # what takes it back; TorchScript would read an annotation

    def make_generation_fast_(self, **kwargs: Any) -> None:
        if self._is_generation_fast:
            return
        super().make_generation_fast_(**kwargs)
        del self.train  # fairseq's, which raises something that nobody asked for
        self._prepare()

    def train(self, mode: bool = True) -> nn.Module:
        if mode and self._is_generation_fast:
            raise UserError(
                "this model was prepared for inference and cannot be trained any more: load it again"
            )
        return super().train(mode)

    def _prepare(self) -> None:
        done = INFERENCE_TYPES[self.inference_type](self)
        self._preparation = Preparation(self, done, self._prepare_again, self._take_back)

    def _prepare_again(self) -> None:
        self._take_back()
        self._prepare()

    def _take_back(self) -> bool:
        """Undo the preparation; whether there was one."""
        done, self._preparation = self._preparation, None
        if done is None:
            return False
        done.take_back()
        return True

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        prepared = self._take_back()
        super()._apply(fn, recurse)
        if prepared:
            self._prepare()
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        prepared = self._take_back()
        found = super().load_state_dict(*args, **kwargs)
        if prepared:
            self._prepare()
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        prepared = self._take_back()
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(self.__dict__, memo))
        if prepared:
            self._prepare()
            made._prepare()
        return made

    def __prepare_scriptable__(self) -> nn.Module:
        self._take_back()
        return self


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
