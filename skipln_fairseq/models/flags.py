"""From command-line flags to one frozen :class:`StackConfig` for each side; :mod:`.choices` reads the axes.

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
from ..nn.valid import valid_placements
from ..nn.variant import Declaration, Option
from .attention_flags import attentions
from .by_layer import Part, parts, with_choices
from .choices import (
    SIDES,
    checked_mixing,
    checked_solver,
    embedding_of,
    given,
    mixing_of,
    norm_of,
    norms_of_side,
    placement_of,
    qk_norm_of,
    sides_of,
    skip_type_of,
    slots_of,
    solver_of,
    source_of,
    start_of,
    value_of,
)
from .config import StackConfig
from .family import flag_of, option_owners
from .forms import form_of

__all__ = [
    "connections",
    "fill_defaults",
    "fill_placement",
    "parts_of",
    "remember_depth",
]


def fill_defaults(args, skip_type: str, order: int | None = None) -> None:
    """Fill what a preset says and the user did not, for those skip types that use it.

    Idempotent, since fairseq applies a preset when it parses and again when it builds.
    """
    args.skip_type = getattr(args, "skip_type", skip_type)
    used = {
        option.flag
        for side in sides_of(args)
        for option in SKIPS[skip_type_of(args, side)].declaration.options
    }
    if order is not None and "skip_order" in used and not hasattr(args, "skip_order"):
        args.skip_order = order


def fill_placement(args, side: str) -> None:
    """Say in fairseq's own flag whether a side is Pre-LN, for models that are so unless told otherwise.

    fairseq's language models set that flag themselves, so it cannot tell what the user wants; the skip type and
    our flag do.
    """
    skip = skip_type_of(args, side)
    _, value = given(args, f"{side}_norm_placement", "norm_placement")
    pre = value == "pre"
    if value is None:
        pre = all("pre" in valid_placements(skip, norm) for norm in norms_of_side(args, side))
    setattr(args, f"{side}_normalize_before", pre)


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
    norms = norms_of_side(args, side)
    chosen = [SKIPS[skip_type_of(args, side)], *(NORMS[norm] for norm in norms)]
    chosen += [PLACEMENTS[placement_of(args, side, norm)] for norm in norms]
    chosen += [MIXINGS[mixing_of(args, side)], SOLVERS[solver_of(args, side)]]
    chosen += [STARTS[start_of(args, side)], QK_NORMS[qk_norm_of(args, side)], VALUES[value_of(args, side)]]
    chosen += [SOURCES[source_of(args)]] if side == "encoder" else []
    return {option.flag for variant in chosen for option in variant.declaration.options}


def _refuse_unused(args) -> None:
    """A flag given for a side (or for both) that none of its choices uses is an error."""
    sides = sides_of(args)
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
    flag, value = given(args, f"{side}_{option.flag}", option.flag)
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
    skip, norm = skip_type_of(args, side), norm_of(args, side, slot)
    placement, form, mixing = placement_of(args, side, norm), form_of(args), checked_mixing(args, side, norm)
    solver = checked_solver(args, side, norm)
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
    flag, values = given(args, f"{side}_by_layer", "by_layer")
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
    flag, value = given(args, f"{side}_drop_path", "drop_path")
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
    start = start_of(args, side)
    _refuse_two_starts(start, slots)
    slots.setdefault("cross_attn", slots["self_attn"])
    kinds, qk_norm, source = attentions(args), qk_norm_of(args, side), source_of(args)
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
    return {side: _stack(args, side) for side in sides_of(args)}
