"""From command-line flags to one frozen :class:`ConnectionConfig` for each side.

Each flag exists for both sides at once (``--skip-order``) and for one side (``--encoder-skip-order``),
which overrides. A flag that was not given is absent from the namespace, as fairseq's legacy
parser leaves it, so presence is what "the user gave it" means; presets fill only what is used.
"""

import argparse
import math
from typing import Any

from ..errors import UserError
from ..nn import NORMS, SKIPS, ConnectionConfig, SkipOptions
from .family import OPTIONS, valid_norms, valid_placements

__all__ = ["SIDES", "add_connection_args", "connections", "fill_defaults"]

SIDES = ("encoder", "decoder")
NAMES = ("skip_type", "skip_norm", "skip_order", "skip_scale", "share_skip_norms")


def _choice(flag: str, value: Any, choices: dict) -> str:
    if value not in choices:
        raise UserError(f"{flag} {value}: valid are {', '.join(choices)}")
    return value


def _order(flag: str, value: Any) -> int:
    try:
        order = int(str(value))
    except ValueError:
        order = 0
    if order < 1:
        raise UserError(f"{flag} {value}: valid is a whole number of at least 1")
    return order


def _scale(flag: str, value: Any) -> float:
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise UserError(f"{flag} {value}: valid is a finite number")
    return scale


def add_connection_args(parser) -> None:
    """Add the connection's flags to fairseq's model-specific parser group.

    No type and no choices: :func:`connections` is the one place that reads the values, whether
    they come from the command line, a checkpoint or ``--model-overrides``.
    """
    for side in ("", *(f"{side}-" for side in SIDES)):
        where = f"{side[:-1]} only, overrides the flag for both sides: " if side else ""
        parser.add_argument(
            f"--{side}skip-type", metavar="TYPE", help=f"{where}how F(x) meets x: {', '.join(SKIPS)}"
        )
        parser.add_argument(
            f"--{side}skip-norm", metavar="NORM", help=f"{where}norm of the sub-layers: {', '.join(NORMS)}"
        )
        parser.add_argument(
            f"--{side}skip-order", metavar="K", help=f"{where}order of the recursive skip, at least 1"
        )
        parser.add_argument(
            f"--{side}skip-scale",
            metavar="λ",
            help=f"{where}scale of x in the expanded skip (--skip-scale=-1e-3 with =)",
        )
        parser.add_argument(
            f"--{side}share-skip-norms",
            action=argparse.BooleanOptionalAction,
            help=f"{where}one set of norm parameters for all steps of the recursive skip",
        )


def _given(args, side: str, name: str) -> tuple[str, Any]:
    """The flag that decides ``name`` for a side, and its value (None: not given)."""
    own = getattr(args, f"{side}_{name}", None)
    key = f"{side}_{name}" if own is not None else name
    return "--" + key.replace("_", "-"), getattr(args, key, None)


def _skip_type(args, side: str) -> str:
    flag, value = _given(args, side, "skip_type")
    return _choice(flag, "plain" if value is None else value, SKIPS)


def fill_defaults(args, skip_type: str, order: int) -> None:
    """Fill what a preset says and the user did not, for those skip types that use it.

    Idempotent, since fairseq applies a preset when it parses and again when it builds.
    """
    args.skip_type = getattr(args, "skip_type", skip_type)
    args.skip_norm = getattr(args, "skip_norm", "layer")
    used = {name for side in SIDES for name in OPTIONS[_skip_type(args, side)]}
    if "skip_order" in used and not hasattr(args, "skip_order"):
        args.skip_order = order


def _refuse_unused(args) -> None:
    """A flag given for a side (or for both) whose skip type does not use it is an error."""
    used = {side: OPTIONS[_skip_type(args, side)] for side in SIDES}
    used[""] = {name for names in used.values() for name in names}
    for side, names in used.items():
        for name in NAMES[2:]:
            key = f"{side}_{name}".lstrip("_")
            if getattr(args, key, None) is not None and name not in names:
                types = {_skip_type(args, s) for s in SIDES if side in ("", s)}
                users = [skip for skip, options in OPTIONS.items() if name in options]
                raise UserError(
                    f"--{key.replace('_', '-')} has no meaning with --skip-type {' / '.join(sorted(types))}: "
                    f"it belongs to {', '.join(users)}"
                )


def _connection(args, side: str) -> ConnectionConfig:
    skip = _skip_type(args, side)
    norm_flag, norm = _given(args, side, "skip_norm")
    norm = _choice(norm_flag, "layer" if norm is None else norm, NORMS)
    if norm not in valid_norms(skip):
        raise UserError(
            f"{norm_flag} {norm} does not go with --skip-type {skip}: "
            f"valid are {', '.join(valid_norms(skip))}"
        )

    placement = "pre" if getattr(args, f"{side}_normalize_before", False) else "post"
    valid = valid_placements(skip, norm)
    if placement not in valid:
        raise UserError(
            f"--{side}-normalize-before does not go with --skip-type {skip} --skip-norm {norm}: "
            f"the valid placement of the norm is {', '.join(valid)}"
        )

    options = {}
    if "skip_order" in OPTIONS[skip]:
        flag, order = _given(args, side, "skip_order")
        if order is None:
            raise UserError(f"--skip-type {skip} needs {flag} K, a whole number of at least 1")
        options["order"] = _order(flag, order)
    if "skip_scale" in OPTIONS[skip]:
        flag, scale = _given(args, side, "skip_scale")
        if scale is None:
            raise UserError(f"--skip-type {skip} needs {flag} λ, a finite number")
        options["scale"] = _scale(flag, scale)
    _, share = _given(args, side, "share_skip_norms")
    return ConnectionConfig(skip, norm, placement, SkipOptions(**options), bool(share))


def connections(args) -> dict[str, ConnectionConfig]:
    """Read, check and resolve the connection flags.

    Args:
        args: an argparse namespace or a ``TransformerConfig``. One without any connection flag
            (a stock model's) describes the stock connection.

    Returns:
        ``{"encoder": …, "decoder": …}``.

    Raises:
        UserError: for a value out of range, a flag that the skip type does not use, or a
            combination that is not in the family.
    """
    _refuse_unused(args)
    return {side: _connection(args, side) for side in SIDES}
