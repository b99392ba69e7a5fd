"""From command-line flags to one frozen :class:`StackConfig` for each side.

Each flag exists for both sides at once (``--skip-order``) and for one side (``--encoder-skip-order``),
which overrides; norms also for one kind of sub-layer (``--encoder-ffn-skip-norm``). A flag that was not given
is absent from the namespace, as fairseq's legacy parser leaves it, so presence is what "the user gave it"
means; presets fill only what is used.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..arguments import count, finite, positive, whole
from ..errors import UserError
from ..nn import NORMS, PLACEMENTS, SKIPS, ConnectionConfig, SkipOptions
from ..nn.init import deepnorm_constants
from ..probe.log import add_probe_args
from .attention_flags import add_attention_args, attentions
from .config import StackConfig
from .family import NORM_OPTIONS, OPTIONS, valid_norms, valid_placements
from .forms import FORMS, form_of, formed_norm_options, formed_options, formed_placement, initialisation
from .kernels import add_kernels_arg

__all__ = [
    "SIDES",
    "SLOTS",
    "add_connection_args",
    "connections",
    "fill_defaults",
    "fill_placement",
    "remember_depth",
    "skip_type_of",
]

SIDES = ("encoder", "decoder")
SLOTS = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}


def _boolean(flag: str, value: Any) -> bool:
    return bool(value)


@dataclass(frozen=True)
class Option:
    """A further flag of some skip types or norms.

    Attributes:
        metavar: what it takes; None for a flag that is given or not (with its ``--no-`` form).
        help: its help text.
        read: from flag and value to the checked value.
        default: the value where it was not given; None: it must be given.
    """

    metavar: str | None
    help: str
    read: Callable[[str, Any], Any]
    default: Any = None

    def needed(self, owner: str, flag: str) -> str:
        return f"{owner} needs {flag} {self.metavar}"


OPTION_FLAGS: dict[str, Option] = {
    "skip_order": Option("K", "order of the recursive skip, at least 1", whole),
    "skip_scale": Option(
        "λ", "scale of x: fixed in expanded, the first value in learned (--skip-scale=-1e-3 with =)", finite
    ),
    "skip_scale_vector": Option(None, "learned: one scale for each feature", _boolean, False),
    "share_skip_norms": Option(
        None, "one set of norm parameters for all steps of the recursive skip", _boolean, False
    ),
    "layerscale_init": Option("s", "first value of LayerScale's factors, 1e-4 unless given", finite, 1e-4),
    "adanorm_scale": Option("C", "AdaNorm's C, 1 unless given", positive, 1.0),
    "adanorm_slope": Option("k", "AdaNorm's k, 0.1 unless given", finite, 0.1),
    "power_warmup": Option(
        "N", "batches in which PowerNorm takes the batch's own statistics, 4000 unless given", count, 4000
    ),
}
SKIP_FIELDS = {
    "skip_order": "order",
    "skip_scale": "scale",
    "skip_scale_vector": "vector",
    "layerscale_init": "scale",
}
NORM_FIELDS = {"adanorm_scale": "scale", "adanorm_slope": "slope", "power_warmup": "warmup"}
DEFAULTS_BY_SKIP = {("learned", "skip_scale"): 1.0}


def add_connection_args(parser, sides: Sequence[str] = SIDES) -> None:
    """Add the connection's flags to fairseq's model-specific parser group.

    No type and no choices: :func:`connections` is the one place that reads the values, whether
    they come from the command line, a checkpoint or ``--model-overrides``.
    """
    add_probe_args(parser)
    add_kernels_arg(parser)
    add_attention_args(parser, [*sides, "cross"] if "encoder" in sides else sides)
    choices = {
        "skip-type": ("TYPE", f"how F(x) meets x: {', '.join(SKIPS)}"),
        "skip-norm": ("NORM", f"norm of the sub-layers: {', '.join(NORMS)}"),
        "norm-placement": ("PLACE", f"where the norm stands: {', '.join(PLACEMENTS)}"),
    }
    parser.add_argument(
        "--connection-form",
        metavar="FORM",
        # a default and not left out, so that what a training stores says which it was
        default=FORMS[0],
        help="Sub-LN, ReZero, ResiDual, B2T and PowerNorm as in their authors' code (authors, unless given), or as "
        "this plugin had them first (first), which is what older checkpoints are",
    )
    for side in ("", *(f"{side}-" for side in sides)):
        where = f"{side[:-1]} only, overrides the flag for both sides: " if side else ""
        for flag, (metavar, text) in choices.items():
            parser.add_argument(f"--{side}{flag}", metavar=metavar, help=where + text)
        for name, option in OPTION_FLAGS.items():
            kind = {"action": argparse.BooleanOptionalAction} if option.metavar is None else {}
            kind = kind or {"metavar": option.metavar}
            parser.add_argument(f"--{side}{name.replace('_', '-')}", help=where + option.help, **kind)
    for side in sides:
        for slot in SLOTS[side]:
            if slot == "cross_attn" and "encoder" not in sides:
                continue
            flag = f"--{side}-{slot.replace('_', '-')}-skip-norm"
            parser.add_argument(flag, metavar="NORM", help=f"norm of the {side}'s {slot} alone")


def _sides(args) -> tuple[str, ...]:
    """The sides that the model has; a language model's preset says that it is one."""
    return ("decoder",) if getattr(args, "language_model", False) else SIDES


def _slots(args, side: str) -> list[str]:
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


def _norms(args, side: str) -> list[str]:
    return [_norm(args, side, slot) for slot in _slots(args, side)]


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
    used = {name for side in _sides(args) for name in OPTIONS[skip_type_of(args, side)]}
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


def _used(args, side: str) -> set[str]:
    """The further flags that a side's skip type and norms use."""
    names = set(OPTIONS[skip_type_of(args, side)])
    return names.union(*(NORM_OPTIONS.get(norm, ()) for norm in _norms(args, side)))


def _refuse_unused(args) -> None:
    """A flag given for a side (or for both) that neither its skip type nor its norms use is an error."""
    if getattr(args, "decoder_cross_attn_skip_norm", None) and "cross_attn" not in _slots(args, "decoder"):
        raise UserError("--decoder-cross-attn-skip-norm has no meaning with --no-cross-attention")
    sides = _sides(args)
    used = {side: _used(args, side) for side in sides}
    used[""] = {name for names in used.values() for name in names}
    for side, names in used.items():
        for name in OPTION_FLAGS:
            key = f"{side}_{name}".lstrip("_")
            if getattr(args, key, None) is not None and name not in names:
                types = {skip_type_of(args, s) for s in sides if side in ("", s)}
                owners = [skip for skip, options in OPTIONS.items() if name in options]
                owners += [f"--skip-norm {norm}" for norm, options in NORM_OPTIONS.items() if name in options]
                raise UserError(
                    f"--{key.replace('_', '-')} has no meaning with --skip-type {' / '.join(sorted(types))} "
                    f"and the norms chosen: it belongs to {', '.join(owners)}"
                )


def _option(args, side: str, skip: str, name: str) -> Any:
    option = OPTION_FLAGS[name]
    flag, value = _given(args, f"{side}_{name}", name)
    if value is None:
        value = DEFAULTS_BY_SKIP.get((skip, name), option.default)
    if value is None:
        raise UserError(option.needed(f"--skip-type {skip}", flag))
    return option.read(flag, value)


def _depth(args) -> tuple[int, int]:
    layers = tuple(getattr(args, f"{side}_layers", None) or 0 for side in SIDES)
    return tuple(getattr(args, "connection_depth", layers))


def remember_depth(args) -> None:
    """Keep the layers of both sides that the model was made for: constants that follow from the depth are those
    of the whole model also when it is loaded with fewer layers."""
    args.connection_depth = list(_depth(args))


def _stack(args, side: str) -> StackConfig:
    skip = skip_type_of(args, side)
    numbers = {SKIP_FIELDS[name]: name for name in OPTIONS[skip] if name in SKIP_FIELDS}
    options = {field: _option(args, side, skip, name) for field, name in numbers.items()}
    if skip == "deepnorm":
        options["scale"], _ = deepnorm_constants(*_depth(args)).get(side, (1.0, 1.0))
    share = "share_skip_norms" in OPTIONS[skip] and _option(args, side, skip, "share_skip_norms")

    slots, form = {}, form_of(args)
    for slot in _slots(args, side):
        norm = _norm(args, side, slot)
        names = NORM_OPTIONS.get(norm, ())
        norm_options = tuple((NORM_FIELDS[name], _option(args, side, skip, name)) for name in names)
        norm_options += formed_norm_options(form, norm, getattr(args, f"{side}_attention_heads", 1))
        placement = _placement(args, side, norm)
        skip_options = SkipOptions(**options, **formed_options(form, skip, norm))
        where = formed_placement(form, slot, placement)
        slots[slot] = ConnectionConfig(skip, norm, where, skip_options, norm_options, share)
    cross_attn = slots.get("cross_attn", slots["self_attn"])
    kinds = attentions(args)
    initial, gain = initialisation(form, side, skip, slots["ffn"].placement, _depth(args))
    return StackConfig(
        slots["self_attn"], cross_attn, slots["ffn"], initial, gain, kinds[side], kinds["cross"]
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
