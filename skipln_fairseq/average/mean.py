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


def average(files: Sequence[Path]) -> dict[str, Any]:
    """The last file's state with the mean of all files' parameters, and without an optimiser's state.

    Sums are float64, and half-precision parameters come out as float32, so that nothing is rounded away.
    Integers, such as counters, have no mean worth having, nor have draws of random features: the last file's are kept.
    """
    first = state = read_checkpoint(files[0])
    sums = {
        name: value.double()
        for name, value in state["model"].items()
        if value.is_floating_point() and not name.endswith(".favor.features.projection")
    }
    kind, shapes = _model_flags(first), _shapes(first)
    for file in files[1:]:
        state = read_checkpoint(file)
        if other := _difference(kind, _model_flags(state)) or _difference(shapes, _shapes(state)):
            raise UserError(f"{files[0]} and {file} hold different models: {other}")
        sums = {name: total + state["model"][name] for name, total in sums.items()}
    for name, total in sums.items():
        precision = torch.promote_types(state["model"][name].dtype, torch.float32)
        state["model"][name] = (total / len(files)).to(precision)
    state.pop("last_optimizer_state", None)
    return state


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
            return f"{name} is {ours.get(name)} in one and {theirs.get(name)} in the other"
    return ""
