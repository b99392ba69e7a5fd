"""Which checkpoints a training run may start from, once connections are a choice.

fairseq compares parameter names and shapes only. Two models that differ in λ, in the sharing of
norms or in what a norm computes have the same names and shapes, so a run resumed with other flags
would go on silently as another model. Here a resumed run must have the checkpoint's connections,
while ``--finetune-from-model`` may change them: what both models have is loaded, what is new
starts fresh, and both are listed.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from fairseq import checkpoint_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.trainer import Trainer
from torch import Tensor, nn

from ..common.changes import Changes
from ..common.errors import UserError
from ..compat.old_parameters import WITH_A_NORM_AT_THE_END
from ..compat.patch import around
from ..nn import Connection
from .attention import AttentionConfig
from .attention_flags import attentions
from .choices import SIDES, SLOTS, embedding_of
from .config import StackConfig
from .flags import connections

__all__ = ["check_checkpoints_when_training"]

# what stands inside F: Sub-LN's norms, those of queries, keys and values, FAVOR+'s features, value residuals; and what
# stands between blocks: mixings of depths, solvers, sources of the decoder
ELSEWHERE = re.compile(
    r"\.(q_proj|k_proj|v_proj|out_proj|fc2)\.norm\.|_attn\.favor\.|_attn_values\.|_mixing\.|\.solver\.|\.source\."
)

logger = logging.getLogger(__name__)


def _choices(stack: StackConfig, slot: str) -> dict[str, object]:
    """A sub-layer's choices as ``{"norm": "layer", "order": 2, …}``."""
    config = getattr(stack, slot)
    choices = asdict(config)
    if any(declared.from_depth for declared in config.declarations()):
        choices["depth"] = "+".join(map(str, stack.depth))
    for axis in ("", "norm", "placement", "mixing", "solver"):
        found = choices.pop(f"{axis}_options".lstrip("_"))
        choices |= {f"{axis} {name}".lstrip(): value for name, value in found}
    return choices


WHOLE_SIDE = {
    "norm of queries, keys and values": "qk_norm",
    "value residual": "value",
    "source": "source",
}
"""What is chosen for all sub-layers of a side at once, as it is told and as :class:`.StackConfig` names it."""


def _with_options(stack: StackConfig, name: str) -> str:
    options = getattr(stack, f"{name}_options", ())
    return " ".join((getattr(stack, name), *(f"{option} {value}" for option, value in options)))


def _changes(stored_args, args) -> Changes:
    """``encoder order 2 → 3`` or, where it is not every sub-layer's, ``encoder ffn norm layer → rms``."""
    stored, current = connections(stored_args), connections(args)
    found, forms = [], []
    for side in (side for side in SIDES if side in stored and side in current):
        slots = SLOTS[side]
        changes: dict[tuple, list[str]] = {}
        for slot in slots:
            before, after = (_choices(stack[side], slot) for stack in (stored, current))
            for choice in {**before, **after}:
                values = (before.get(choice), after.get(choice))
                if values[0] != values[1]:
                    changes.setdefault((choice, *values), []).append(slot)
        for what, name in WHOLE_SIDE.items():
            if name == "source" and side == "decoder":
                continue  # the same as the encoder's
            before, after = (_with_options(stack[side], name) for stack in (stored, current))
            if before != after:
                found.append(f"{side} {what} {before} → {after}")
        if stored[side].by_layer != current[side].by_layer:
            before, after = (_described_parts(stack[side]) for stack in (stored, current))
            found.append(f"{side} by layer {before} → {after}")
        for (choice, before, after), changed in changes.items():
            if choice == "form":
                forms.append(f"--connection-form {before} → {after}")
                continue
            where = [side] if len(changed) == len(slots) else [f"{side} {slot}" for slot in changed]
            found += [f"{place} {choice} {before} → {after}" for place in where]
    before, after = embedding_of(stored_args), embedding_of(args)
    if before != after:
        found.append(f"word vectors {before} → {after}")
    before, after = attentions(stored_args), attentions(args)
    for kind in before:
        if before[kind] != after[kind]:
            found.append(f"{kind} attention {_described(before[kind])} → {_described(after[kind])}")
    found += forms[:1]
    retyped = {
        f"{side} {part}"
        for side in stored.keys() & current.keys()
        for part in ("skip", "mixing", "solver")
        if getattr(stored[side].ffn, part) != getattr(current[side].ffn, part)
    }
    return Changes(found, retyped=retyped)


def _described_parts(stack: StackConfig) -> str:
    """The layers that differ from the rest of their stack, and how all of their choices are."""
    parts = [
        f"{first}-{last} " + " ".join(f"{name} {value}" for name, value in _choices(config, "ffn").items())
        for first, last, config in stack.by_layer
    ]
    return "; ".join(parts) or "none"


def _described(attention: AttentionConfig) -> str:
    return attention.type if attention.type == "softmax" else str(attention.favor)


def _model_args(state: dict):
    """The model's flags as the checkpoint holds them, or None for one that has none (not ours)."""
    if state.get("args") is not None:
        return state["args"]
    return (state.get("cfg") or {}).get("model")


def _model_name(args) -> str | None:
    """Of the architecture, or of the model, whose flags a dataclass of fairseq's holds."""
    return getattr(args, "arch", None) or getattr(args, "_name", None)


def _connection_keys(model: nn.Module, keys) -> list[str]:
    """Those state-dict keys that belong to a connection, to a mixing or to the norm at a stack's end."""
    prefixes = [name for name, module in model.named_modules() if isinstance(module, Connection)]
    prefixes += [f"{side}.layer_norm" for side in SIDES]
    inside = tuple(f"{prefix}." for prefix in prefixes)
    return [key for key in keys if key.startswith(inside) or ELSEWHERE.search(key)]


def _owners(model: nn.Module) -> dict[str, str]:
    """For each parameter's name the first name of the same parameter."""
    first: dict[int, str] = {}
    names = model.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in names}


def _adopt(state: dict, model: nn.Module, retyped: Collection[str]) -> None:
    """Give the checkpoint's model exactly this model's connection parameters, and say which.

    What has another shape, or is of another skip type, is not taken. Norms that share their parameters take those
    of the norm they share them with, which stands under fairseq's name; what the checkpoint holds for them apart
    is not taken.
    """
    own, stored = model.state_dict(), state["model"]
    owner = _owners(model)
    shared = {key for key in _connection_keys(model, own) if owner.get(key, key) != key}
    other = {
        key
        for key in own.keys() & stored.keys()
        if own[key].shape != stored[key].shape
        or (".skip." in key and f"{key.partition('.')[0]} skip" in retyped)
        or ("_mixing." in key and f"{key.partition('.')[0]} mixing" in retyped)
        or (".solver." in key and "encoder solver" in retyped)
        or "_attn.favor." in key  # what is drawn follows from this run's flags and updates
    }
    fresh = _connection_keys(model, own.keys() - (stored.keys() - other) - shared)
    unused = _connection_keys(model, stored.keys() - (own.keys() - shared - other))
    for key in unused:
        del stored[key]
    stored.update({key: own[key] for key in fresh})
    stored.update({key: stored[owner[key]] for key in shared})
    logger.info("starting fresh: %s", ", ".join(sorted(fresh)) or "nothing")
    logger.info("not taken from the checkpoint: %s", ", ".join(sorted(unused)) or "nothing")


def _keep_ends(model: nn.Module, ends: Mapping[str, nn.Module | None], state: dict) -> None:
    """Give the stacks their last norms again, which fairseq takes away for a checkpoint up to 0.5: it had none."""
    for side, end in ends.items():
        stack = getattr(model, side)
        if stack.layer_norm is not end:
            stack.layer_norm = end
            state["model"][f"{side}.version"] = torch.tensor([WITH_A_NORM_AT_THE_END])


def _check_shapes(filename: str, stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Say in one line what fairseq would end in a traceback at: other words, classes or widths."""
    for key in (key for key in own if key in stored):
        there, here = (" × ".join(map(str, each[key].shape)) for each in (stored, own))
        if there != here:
            raise UserError(f"{filename} is of another network: {key} is {there} there and {here} here")


@contextmanager
def _each_loaded_state(check: Callable[[dict], None]) -> Iterator[None]:
    """Pass every checkpoint that is read inside this block through ``check``."""
    load = checkpoint_utils.load_checkpoint_to_cpu

    def load_and_check(*args, **kwargs):
        state = load(*args, **kwargs)
        check(state)
        return state

    checkpoint_utils.load_checkpoint_to_cpu = load_and_check
    try:
        yield
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = load


def check_checkpoints_when_training() -> None:
    """Make fairseq's trainer compare connections before it takes a checkpoint's parameters.

    Raises (in the trainer):
        UserError: when a run would resume with other connections than the checkpoint's.
    """

    @around(Trainer, "load_checkpoint")
    def load_checked(load_checkpoint, trainer: Trainer, filename: str, *args, **kwargs):
        model = trainer.get_model()
        finetuning = filename == trainer.cfg.checkpoint.finetune_from_model

        def check(state: dict) -> None:
            stored_args = _model_args(state)
            # a model that is not of translation says itself what its flags mean
            changes = getattr(model, "changes", _changes)
            ours = changes is not _changes or any(
                isinstance(module, Connection) for module in model.modules()
            )
            if stored_args is None:
                return
            before, after = _model_name(stored_args), _model_name(trainer.cfg.model)
            if getattr(ARCH_MODEL_REGISTRY.get(before), "changes", _changes) is not changes:
                raise UserError(f"{filename} is of another network: {before} → {after}")
            if not (ours or hasattr(stored_args, "skip_type")):
                return  # neither model is of this plugin
            other_data = getattr(trainer.task, "changes", lambda state: [])(state.get("task_state") or {})
            if other_data and not finetuning:
                raise UserError(f"{filename} was trained on other data: {'; '.join(other_data)}")
            ends = {
                side: stack.layer_norm
                for side in SIDES
                if hasattr(stack := getattr(model, side, None), "layer_norm")
            }
            state["model"] = checkpoint_utils.prune_state_dict(state["model"], trainer.cfg.model)
            model.upgrade_state_dict(state["model"])  # to today's names, which are compared below
            found = changes(stored_args, trainer.cfg.model)
            if found.network:
                raise UserError(f"{filename} is of another network: {'; '.join(found.network)}")
            if found.connections and not finetuning:
                raise UserError(
                    f"{filename} was trained with other connections: {'; '.join(found.connections)}. Resume with "
                    "its flags, choose another --save-dir, or start from it with --finetune-from-model"
                )
            if found.connections:
                logger.info("connections differ from %s: %s", filename, "; ".join(found.connections))
                _keep_ends(model, ends, state)
                _adopt(state, model, found.retyped)
            _check_shapes(filename, state["model"], model.state_dict())

        with _each_loaded_state(check):
            return load_checkpoint(trainer, filename, *args, **kwargs)
