"""From command-line flags to one frozen :class:`StackConfig` for each side.

Each flag exists for both sides at once (``--skip-order``) and for one side (``--encoder-skip-order``),
which overrides; norms also for one kind of sub-layer (``--encoder-ffn-skip-norm``). A flag that was not given
is absent from the namespace, as fairseq's legacy parser leaves it, so presence is what "the user gave it"
means; presets fill only what is used.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..common.errors import UserError
from ..nn import (
    EMBEDDINGS,
    MIXINGS,
    NORMS,
    PLACEMENTS,
    QK_NORMS,
    SKIPS,
    SOLVERS,
    SOURCES,
    STARTS,
    VALUES,
    ConnectionConfig,
)
from ..nn.valid import (
    valid_mixings,
    valid_norms,
    valid_placements,
    valid_qk_norms,
    valid_solvers,
    valid_sources,
    valid_values,
)
from ..nn.variant import Declaration, Option
from .attention_flags import attentions
from .by_layer import Part, parts, with_choices
from .config import StackConfig
from .family import flag_of, option_owners
from .forms import form_of

__all__ = [
    "SIDES",
    "SLOTS",
    "connections",
    "embedding_of",
    "fill_defaults",
    "fill_placement",
    "parts_of",
    "remember_depth",
    "skip_type_of",
    "slots_of",
]

SIDES = ("encoder", "decoder")
SLOTS = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}


def _sides(args) -> tuple[str, ...]:
    """The sides that the model has; a language model's preset says that it is one."""
    return ("decoder",) if getattr(args, "language_model", False) else SIDES


def slots_of(args, side: str) -> list[str]:
    """The sub-layers that a side has."""
    alone = getattr(args, "language_model", False) or getattr(args, "no_cross_attention", False)
    return [slot for slot in SLOTS[side] if not (alone and slot == "cross_attn")]


def _given(args, *names: str) -> tuple[str, Any]:
    """The first of these flags that was given, and its value; the last one and None if none was."""
    for name in names:
        if getattr(args, name, None) is not None:
            break
    return "--" + name.replace("_", "-"), getattr(args, name, None)


def _choice(flag: str, value: Any, choices: dict) -> str:
    if value not in choices:
        raise UserError(f"{flag} {value}: valid are {', '.join(choices)}")
    return value


def skip_type_of(args, side: str) -> str:
    """The skip type of a side."""
    flag, value = _given(args, f"{side}_skip_type", "skip_type")
    return _choice(flag, "plain" if value is None else value, SKIPS)


def _norm(args, side: str, slot: str) -> str:
    skip = skip_type_of(args, side)
    flag, value = _given(args, f"{side}_{slot}_skip_norm", f"{side}_skip_norm", "skip_norm")
    norm = _choice(flag, valid_norms(skip)[0] if value is None else value, NORMS)
    if norm not in valid_norms(skip):
        raise UserError(
            f"{flag} {norm} does not go with --skip-type {skip}: valid are {', '.join(valid_norms(skip))}"
        )
    return norm


def mixing_of(args, side: str) -> str:
    """The mixing of depths of a side."""
    flag, value = _given(args, f"{side}_depth_mixing", "depth_mixing")
    return _choice(flag, "none" if value is None else value, MIXINGS)


def _mixing(args, side: str, norm: str) -> str:
    """The same, checked against the side's other choices."""
    skip, placement, mixing = skip_type_of(args, side), _placement(args, side, norm), mixing_of(args, side)
    valid = valid_mixings(skip, norm, placement)
    if mixing not in valid:
        instead = " stands in the place of the skip, and" if MIXINGS[mixing].skip else ""
        raise UserError(
            f"--depth-mixing {mixing}{instead} does not go with --skip-type {skip} --skip-norm {norm} "
            f"--norm-placement {placement} of the {side}: valid there are {', '.join(valid)}"
        )
    return mixing


def solver_of(args, side: str) -> str:
    """How the blocks of a side are applied; a decoder's once."""
    value = getattr(args, "encoder_solver", None) if side == "encoder" else None
    return _choice("--encoder-solver", "none" if value is None else value, SOLVERS)


def _solver(args, side: str, norm: str) -> str:
    """The same, checked against the side's other choices."""
    skip, placement, mixing = skip_type_of(args, side), _placement(args, side, norm), mixing_of(args, side)
    solver, valid = solver_of(args, side), valid_solvers(skip, norm, placement, mixing)
    if solver not in valid:
        raise UserError(
            f"--encoder-solver {solver} does not go with --skip-type {skip} --skip-norm {norm} --norm-placement "
            f"{placement} --depth-mixing {mixing}: valid there are {', '.join(valid)}"
        )
    return solver


def value_of(args, side: str) -> str:
    """The value residual of a side, checked against its solver."""
    flag, value = _given(args, f"{side}_value_residual", "value_residual")
    chosen, solver = _choice(flag, "none" if value is None else value, VALUES), solver_of(args, side)
    if chosen not in valid_values(solver):
        raise UserError(
            f"{flag} {chosen} does not go with --encoder-solver {solver}, which applies a block again"
        )
    return chosen


def source_of(args) -> str:
    """What attention to the encoder reads, checked against the encoder's other choices."""
    flag, value = _given(args, "cross_attention_source")
    chosen = _choice(flag, "last" if value is None else value, SOURCES)
    if value is not None and "cross_attn" not in slots_of(args, "decoder"):
        raise UserError(f"{flag} has no meaning with --no-cross-attention")
    if chosen != "last":
        skip, mixing = skip_type_of(args, "encoder"), mixing_of(args, "encoder")
        if chosen not in valid_sources(skip, mixing):
            raise UserError(
                f"{flag} {chosen} does not go with --skip-type {skip} --depth-mixing {mixing} of the encoder: valid "
                f"there are {', '.join(valid_sources(skip, mixing))}"
            )
    return chosen


def _norms(args, side: str) -> list[str]:
    return [_norm(args, side, slot) for slot in slots_of(args, side)]


def _placement(args, side: str, norm: str) -> str:
    """Where the norm stands in a side: our flag, or fairseq's, or the skip type's own."""
    skip = skip_type_of(args, side)
    valid = valid_placements(skip, norm)
    flag, value = _given(args, f"{side}_norm_placement", "norm_placement")
    before = bool(getattr(args, f"{side}_normalize_before", False))
    if value is None:
        flag, value = (f"--{side}-normalize-before", "pre") if before else (flag, valid[0])
    elif before and value != "pre":
        raise UserError(f"--{side}-normalize-before means pre and contradicts {flag} {value}")
    placement = _choice(flag, value, PLACEMENTS)
    if placement not in valid:
        raise UserError(
            f"{flag}{'' if flag.endswith('before') else f' {placement}'} does not go with --skip-type {skip} "
            f"--skip-norm {norm}: valid placements of the norm are {', '.join(valid)}"
        )
    return placement


def fill_defaults(args, skip_type: str, order: int | None = None) -> None:
    """Fill what a preset says and the user did not, for those skip types that use it.

    Idempotent, since fairseq applies a preset when it parses and again when it builds.
    """
    args.skip_type = getattr(args, "skip_type", skip_type)
    used = {
        option.flag for side in _sides(args) for option in SKIPS[skip_type_of(args, side)].declaration.options
    }
    if order is not None and "skip_order" in used and not hasattr(args, "skip_order"):
        args.skip_order = order


def fill_placement(args, side: str) -> None:
    """Say in fairseq's own flag whether a side is Pre-LN, for models that are so unless told otherwise.

    fairseq's language models set that flag themselves, so it cannot tell what the user wants; the skip type and
    our flag do.
    """
    skip = skip_type_of(args, side)
    _, value = _given(args, f"{side}_norm_placement", "norm_placement")
    pre = value == "pre"
    if value is None:
        pre = all("pre" in valid_placements(skip, norm) for norm in _norms(args, side))
    setattr(args, f"{side}_normalize_before", pre)


def _start(args, side: str) -> str:
    flag, value = _given(args, f"{side}_initialisation", "initialisation")
    return _choice(flag, "fairseq" if value is None else value, STARTS)


def embedding_of(args) -> str:
    """What word vectors are made of; one choice for both sides, which may share them."""
    value = getattr(args, "embedding_norm", None)
    return _choice("--embedding-norm", "none" if value is None else value, EMBEDDINGS)


def _qk_norm(args, side: str) -> str:
    placement = _placement(args, side, _norm(args, side, "self_attn"))
    flag, value = _given(args, f"{side}_qk_norm", "qk_norm")
    valid = valid_qk_norms(placement)
    chosen = _choice(flag, valid[0] if value is None else value, QK_NORMS)
    if chosen not in valid:
        raise UserError(
            f"{flag} {chosen} does not go with --norm-placement {placement} of the {side}: valid there are "
            f"{', '.join(valid)}"
        )
    return chosen


def _refuse_two_starts(start: str, slots: Mapping[str, ConnectionConfig]) -> None:
    """First weights that are part of a method are not overwritten, and T-Fixup is for models without norms."""
    for slot in slots.values():
        if start != "fairseq" and slot.has_start():
            raise UserError(
                f"--initialisation {start} does not go with --skip-type {slot.skip} and --norm-placement "
                f"{slot.placement}, whose first weights are part of them"
            )
        if STARTS[start].needs_no_norm and slot.norm != "none":
            raise UserError(f"--initialisation {start} is for --skip-norm none, and not for {slot.norm}")


def _used(args, side: str) -> set[str]:
    """The further flags that a side's choices use."""
    norms = _norms(args, side)
    chosen = [SKIPS[skip_type_of(args, side)], *(NORMS[norm] for norm in norms)]
    chosen += [PLACEMENTS[_placement(args, side, norm)] for norm in norms]
    chosen += [MIXINGS[mixing_of(args, side)], SOLVERS[solver_of(args, side)]]
    chosen += [STARTS[_start(args, side)], QK_NORMS[_qk_norm(args, side)], VALUES[value_of(args, side)]]
    chosen += [SOURCES[source_of(args)]] if side == "encoder" else []
    return {option.flag for variant in chosen for option in variant.declaration.options}


def _refuse_unused(args) -> None:
    """A flag given for a side (or for both) that none of its choices uses is an error."""
    if getattr(args, "decoder_cross_attn_skip_norm", None) and "cross_attn" not in slots_of(args, "decoder"):
        raise UserError("--decoder-cross-attn-skip-norm has no meaning with --no-cross-attention")
    sides = _sides(args)
    used = {side: _used(args, side) for side in sides}
    used[""] = {name for names in used.values() for name in names}
    for side, names in used.items():
        for name, owners in option_owners().items():
            key = f"{side}_{name}".lstrip("_")
            if getattr(args, key, None) is not None and name not in names:
                types = {skip_type_of(args, s) for s in sides if side in ("", s)}
                raise UserError(
                    f"--{key.replace('_', '-')} has no meaning with --skip-type {' / '.join(sorted(types))} and "
                    f"the other choices: it belongs to {', '.join(owners)}"
                )


def _option(args, side: str, variant: Declaration, option: Option) -> Any:
    flag, value = _given(args, f"{side}_{option.flag}", option.flag)
    if value is None:
        if option.default is None:
            raise UserError(f"{flag_of(variant)} needs {flag} {option.metavar}")
        return option.default
    try:
        return option.read(value)
    except ValueError as error:
        raise UserError(f"{flag} {value}: valid is {error}") from error


def _options(args, side: str, variant: Declaration) -> dict[str, Any]:
    return {option.name: _option(args, side, variant, option) for option in variant.options}


def _depth(args) -> tuple[int, int]:
    layers = tuple(getattr(args, f"{side}_layers", None) or 0 for side in SIDES)
    return tuple(getattr(args, "connection_depth", layers))


def remember_depth(args) -> None:
    """Keep the layers that the model was made with, how many and which of them it has: what follows from the depth
    stays that of the whole model also when it is loaded with fewer layers."""
    args.connection_depth = list(_depth(args))
    args.connection_layers = [list(_layers(args, side)) for side in SIDES]


def _layers(args, side: str) -> tuple[int, ...]:
    """The numbers that a side's layers had when the model was made, from 0."""
    stored = getattr(args, "connection_layers", None)
    numbers = range(getattr(args, f"{side}_layers", None) or 0)
    if stored and len(stored[SIDES.index(side)]) == len(numbers):
        numbers = stored[SIDES.index(side)]
    kept = getattr(args, f"{side}_layers_to_keep", None) or ()
    kept = sorted(int(layer) for layer in (kept.split(",") if isinstance(kept, str) else kept))
    # the flags of a model that was pruned before it was stored still say so
    if not kept or len(kept) >= len(numbers):
        return tuple(numbers)
    if not 0 <= kept[0] <= kept[-1] < len(numbers):
        raise UserError(
            f"--{side}-layers-to-keep {','.join(map(str, kept))}: there are layers 0 to {len(numbers) - 1}"
        )
    return tuple(numbers[layer] for layer in kept)


def _connection(args, side: str, slot: str) -> ConnectionConfig:
    skip, norm = skip_type_of(args, side), _norm(args, side, slot)
    placement, form, mixing = _placement(args, side, norm), form_of(args), _mixing(args, side, norm)
    solver = _solver(args, side, norm)
    chosen = [registry[name] for registry, name in ((SKIPS, skip), (NORMS, norm), (PLACEMENTS, placement))]
    heads = getattr(args, f"{side}_attention_heads", 1)
    arguments = NORMS[norm].arguments(form, heads, **_options(args, side, NORMS[norm].declaration))
    placing = _options(args, side, PLACEMENTS[placement].declaration)
    refusal = PLACEMENTS[placement].refuses(NORMS[norm], **placing)
    if refusal:
        raise UserError(f"--skip-norm {norm} does not go with --norm-placement {placement}: {refusal}")
    return ConnectionConfig(
        skip,
        norm,
        placement,
        tuple(_options(args, side, SKIPS[skip].declaration).items()),
        tuple(arguments.items()),
        form if any(variant.declaration.has_forms for variant in chosen) else "authors",
        tuple(placing.items()),
        mixing,
        tuple(_options(args, side, MIXINGS[mixing].declaration).items()),
        solver,
        tuple(_options(args, side, SOLVERS[solver].declaration).items()),
    )


def parts_of(args, side: str) -> list[Part]:
    """What is chosen otherwise for some layers; an option that such a part does not use is refused."""
    flag, values = _given(args, f"{side}_by_layer", "by_layer")
    options = {name: next(iter(owners.values())) for name, owners in option_owners().items()}
    found = parts(flag, values, _depth(args)[SIDES.index(side)], options)
    for part in found:
        changed = with_choices(args, side, part)
        for name, _ in part.choices:
            if name in options and name not in _used(changed, side):
                raise UserError(
                    f"{flag}: {name.replace('_', '-')} has no meaning with what layers "
                    f"{part.first}-{part.last} are made of"
                )
    return found


def _drop_path(args, side: str) -> float:
    flag, value = _given(args, f"{side}_drop_path", "drop_path")
    try:
        rate = float(value or 0)
    except ValueError:
        rate = math.nan
    if not 0 <= rate < 1:
        raise UserError(f"{flag} {value}: valid is a probability from 0, below 1")
    return rate


def _stack(args, side: str) -> StackConfig:
    whole = _alone(args, side)
    own = [
        (part.first, part.last, _alone(with_choices(args, side, part), side)) for part in parts_of(args, side)
    ]
    return replace(whole, by_layer=tuple(own))


def _alone(args, side: str) -> StackConfig:
    slots = {slot: _connection(args, side, slot) for slot in slots_of(args, side)}
    start = _start(args, side)
    _refuse_two_starts(start, slots)
    slots.setdefault("cross_attn", slots["self_attn"])
    kinds, qk_norm, source = attentions(args), _qk_norm(args, side), source_of(args)
    return StackConfig(
        **slots,
        attention=kinds[side],
        cross_attention=kinds["cross"],
        qk_norm=qk_norm,
        qk_norm_options=tuple(_options(args, side, QK_NORMS[qk_norm].declaration).items()),
        value=value_of(args, side),
        source=source,
        source_options=tuple(_options(args, "encoder", SOURCES[source].declaration).items()),
        embedding=embedding_of(args),
        start=start,
        start_options=tuple(_options(args, side, STARTS[start].declaration).items()),
        side=side,
        depth=_depth(args),
        layers=_layers(args, side),
        drop_path=_drop_path(args, side),
    )


def connections(args) -> dict[str, StackConfig]:
    """Read, check and resolve the connection flags.

    Args:
        args: an argparse namespace or a ``TransformerConfig``. One without any connection flag
            (a stock model's) describes the stock connection.

    Returns:
        ``{"encoder": …, "decoder": …}``, of a language model the decoder's only.

    Raises:
        UserError: for a value out of range, a flag that the skip type and norms do not use, or a
            combination that is not in the family.
    """
    _refuse_unused(args)
    return {side: _stack(args, side) for side in _sides(args)}
