"""One choice on each axis from plain keyword arguments, checked by what the variants declare."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Optional

from .connection import ConnectionConfig
from .mixing import MIXINGS
from .norm import NORMS
from .placement import PLACEMENTS
from .skip import SKIPS
from .valid import valid_mixings, valid_norms, valid_placements
from .variant import Declaration, Option

__all__ = ["ChoiceError", "choose"]

# what else the callers of this module take by name, and people misspell
FURTHER = (
    "skip",
    "norm",
    "placement",
    "mixing",
    "heads",
    "dropout",
    "branch",
    "layer",
    "depth",
    "index",
    "size",
)


class ChoiceError(ValueError):
    """A choice that is not in the family. The message is one line, which says what is valid."""


def choose(
    skip: str = "plain",
    norm: Optional[str] = None,
    placement: Optional[str] = None,
    mixing: str = "none",
    heads: int = 1,
    **options: Any,
) -> ConnectionConfig:
    """Check choices and their options, and put them together.

    Args:
        skip: a name in ``SKIPS``.
        norm: a name in ``NORMS``; without one it is the skip's own, LayerNorm in most cases.
        placement: a name in ``PLACEMENTS``; without one it is the skip's own, Post-LN in most cases.
        mixing: a name in ``MIXINGS``.
        heads: those of the model's attention, which PowerNorm scales apart.
        options: those that the choices declare, by their names (``order``) or by those of their flags
            (``skip_order``), which tell two options of one name apart.

    Raises:
        ChoiceError: for an unknown name, choices that do not go together, and options that are missing, unknown or
            out of range.
    """
    _known("skip", skip, SKIPS)
    norm = valid_norms(skip)[0] if norm is None else norm
    _known("norm", norm, NORMS)
    _goes_with("norm", norm, valid_norms(skip), f"skip {skip!r}")
    placement = valid_placements(skip, norm)[0] if placement is None else placement
    _known("placement", placement, PLACEMENTS)
    _goes_with("placement", placement, valid_placements(skip, norm), f"skip {skip!r} and norm {norm!r}")
    _known("mixing", mixing, MIXINGS)
    others = f"skip {skip!r}, norm {norm!r} and placement {placement!r}"
    _goes_with("mixing", mixing, valid_mixings(skip, norm, placement), others)

    chosen = [
        SKIPS[skip].declaration,
        NORMS[norm].declaration,
        PLACEMENTS[placement].declaration,
        MIXINGS[mixing].declaration,
    ]
    taken = _options(chosen, options)
    refusal = PLACEMENTS[placement].refuses(NORMS[norm], **taken["placement"])
    if refusal:
        raise ChoiceError(f"norm {norm!r} does not go with placement {placement!r}: {refusal}")
    return ConnectionConfig(
        skip,
        norm,
        placement,
        options=tuple(taken["skip"].items()),
        norm_options=tuple(NORMS[norm].arguments("authors", heads, **taken["norm"]).items()),
        placement_options=tuple(taken["placement"].items()),
        mixing=mixing,
        mixing_options=tuple(taken["mixing"].items()),
    )


def _known(axis: str, name: str, names: Iterable[str]) -> None:
    if name not in list(names):
        raise ChoiceError(f"{axis} {name!r}: valid are {', '.join(names)}")


def _goes_with(axis: str, name: str, valid: list[str], others: str) -> None:
    if name not in valid:
        raise ChoiceError(f"{axis} {name!r} does not go with {others}: valid are {', '.join(valid)}")


def _options(chosen: list[Declaration], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each axis, checked, with their defaults where nothing is given."""
    own = [(variant, option) for variant in chosen for option in variant.options]
    left = dict(given)
    taken: dict[str, dict[str, Any]] = {variant.axis: {} for variant in chosen}
    for variant, option in own:
        alike = [other for _, other in own if other.name == option.name]
        if option.name in left and option.name != option.flag and len(alike) > 1:
            flags = " and ".join(other.flag for other in alike)
            raise ChoiceError(f"{option.name}= has two meanings here: valid are {flags}")
        if option.name != option.flag and option.name in left and option.flag in left:
            raise ChoiceError(f"{option.flag}= says again what {option.name}= says: valid is one of them")
        value = left.pop(option.name, left.pop(option.flag, None))
        taken[variant.axis][option.name] = option.default if value is None else _read(option, value)
    # a misspelt option is one that is missing too: it is named first, as that is the cause
    if left:
        _refuse_unknown(next(iter(left)), chosen, [option for _, option in own])
    _ask_for_missing(
        [(variant, option) for variant, option in own if taken[variant.axis][option.name] is None]
    )
    return taken


def _ask_for_missing(missing: list[tuple[Declaration, Option]]) -> None:
    needed = "; ".join(
        f"{variant.axis} {variant.choice!r} needs {option.name}=: "
        + (
            option.valid()
            if option.metavar is None or option.choices
            else f"{option.metavar}, {option.valid()}"
        )
        for variant, option in missing
    )
    if needed:
        raise ChoiceError(needed)


def _read(option: Option, value: Any) -> Any:
    try:
        return option.read(value)
    except ValueError as error:
        raise ChoiceError(f"{option.name}={value!r}: valid is {error}") from None


def _refuse_unknown(name: str, chosen: list[Declaration], own: list[Option]) -> NoReturn:
    variants = ", ".join(f"{variant.axis} {variant.choice!r}" for variant in chosen)
    names = [option.name for option in own]
    alike = difflib.get_close_matches(name, [*names, *(option.flag for option in own), *FURTHER], 1)
    raise ChoiceError(
        f"{name}= is no option of {variants}: "
        + (f"valid are {', '.join(names)}" if own else "they have none")
        + (f"; did you mean {alike[0]}=?" if alike else "")
    )
