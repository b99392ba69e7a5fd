"""The mean of several checkpoints' parameters."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq.models import ARCH_MODEL_REGISTRY

from ..common.errors import UserError
from ..compat.checkpoints import read_checkpoint

__all__ = ["average"]

# Flags of a model that say how it is trained, not what its parameters mean.
TRAINING = re.compile(
    r".*(dropout|layerdrop|_activations|_path)|quant_noise_.*|min_params_to_wrap|probe_interval"
)

LONGEST = 80


def average(files: Sequence[Path]) -> dict[str, Any]:
    """The last file's state with the mean of all files' parameters, and without an optimiser's state.

    Sums are float64, and half-precision parameters come out as float32, so that nothing is rounded away.
    Integers, such as counters, have no mean worth having, nor have draws of random features: the last file's are kept.
    """
    first = state = _read(files[0])
    sums = {
        name: value.double()
        for name, value in state["model"].items()
        if value.is_floating_point() and not name.endswith(".favor.features.projection")
    }
    for file in files[1:]:
        state = _read(file)
        for of_model in (_model_flags, _images, _shapes):
            if other := _difference(of_model(first), of_model(state)):
                raise UserError(f"{files[0]} and {file} hold different models: {other}")
        sums = {name: total + state["model"][name] for name, total in sums.items()}
    means: dict[Any, torch.Tensor] = {}
    for name, total in sums.items():
        last = state["model"][name]
        mean = (total / len(files)).to(torch.promote_types(last.dtype, torch.float32))
        if mean.isnan().any():
            raise UserError(f"{name} has no mean: infinities of both signs in {', '.join(map(str, files))}")
        # a table that has two names, as of shared embeddings, stays one
        shared = means.setdefault(_place(last), mean)
        state["model"][name] = shared if torch.equal(shared, mean) else mean
    state.pop("last_optimizer_state", None)
    return state


def _read(file: Path) -> dict[str, Any]:
    state = read_checkpoint(file)
    if not (state.get("args") or state.get("cfg")):
        raise UserError(f"{file} is no checkpoint of fairseq: it has no flags")
    return state


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Where its numbers lie."""
    storage = tensor.untyped_storage().data_ptr()
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _images(state: dict[str, Any]) -> dict[str, Any]:
    """The classes of an image model, and how its images are prepared."""
    return (state.get("task_state") or {}).get("images") or {}


def _shapes(state: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value.shape) for name, value in state["model"].items()}


def _model_flags(state: dict[str, Any]) -> dict[str, Any]:
    """The flags that give the parameters their meaning, for instance the number of heads."""
    flags = state.get("args") or (state.get("cfg") or {}).get("model") or {}
    flags = flags if isinstance(flags, dict) else vars(flags)
    arch = flags.get("arch") or flags.get("_name")
    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    if arch in ARCH_MODEL_REGISTRY:
        ARCH_MODEL_REGISTRY[arch].add_args(parser)
    names = (action.dest for action in parser._actions if not TRAINING.fullmatch(action.dest))
    return {"arch": arch} | {name: flags.get(name) for name in names}


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The first name whose values differ, and both values; empty if all are equal."""
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            mine, other = (_short(flags.get(name)) for flags in (ours, theirs))
            return f"{name} is {mine} in one and {other} in the other"
    return ""


def _short(value: Any) -> str:
    """A thousand names of classes are no message."""
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
