"""The family: the flags of its axes, and the table of all choices and of what they go with.

Everything here follows from what the variants declare (:mod:`..nn.variant`).
"""

from collections.abc import Iterator

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
)
from ..nn.valid import (
    valid_mixings,
    valid_norms,
    valid_placements,
    valid_solvers,
    valid_sources,
)
from ..nn.variant import Declaration, Option

__all__ = [
    "AXES",
    "REGISTRIES",
    "declarations",
    "example",
    "flag_of",
    "option_owners",
    "readme_table",
]


AXES = {
    "skip": "--skip-type",
    "norm": "--skip-norm",
    "placement": "--norm-placement",
    "mixing": "--depth-mixing",
    "solver": "--encoder-solver",
    "value": "--value-residual",
    "source": "--cross-attention-source",
    "qk_norm": "--qk-norm",
    "start": "--initialisation",
}
"""The flag of each axis."""


REGISTRIES = (SKIPS, NORMS, PLACEMENTS, MIXINGS, SOLVERS, VALUES, SOURCES, QK_NORMS, STARTS)


def declarations() -> Iterator[Declaration]:
    """Of every variant, axis by axis."""
    for axis in REGISTRIES:
        yield from axis.declarations()


def flag_of(variant: Declaration) -> str:
    """The flag that chooses a variant, and its name."""
    return f"{AXES[variant.axis]} {variant.choice}"


def option_owners() -> dict[str, dict[str, Option]]:
    """For each flag of an option the options behind it, by the words that choose their variants."""
    owners: dict[str, dict[str, Option]] = {}
    for variant in declarations():
        name = variant.choice if variant.axis == "skip" else flag_of(variant)
        for option in variant.options:
            owners.setdefault(option.flag, {})[name] = option
    return owners


def example(variant: Declaration) -> str:
    """Flags that choose a variant, as they stand on a command line."""
    own = flag_of(variant)
    if variant.axis == "placement":
        skips = [
            skip
            for skip in SKIPS
            for _, places in SKIPS[skip].declaration.goes_with
            if variant.choice in places
        ]
        own = f"--skip-type {'plain' if 'plain' in skips else skips[0]} {own}"
    return f"{own} {variant.example}".rstrip()


def _valid_with(variant: Declaration) -> str:
    """What a choice goes with, in words; for norms and placements the skip types."""
    if variant.axis in ("mixing", "solver"):
        return _skips_with(variant)
    if variant.axis == "skip":
        names = {
            ("token", "batch"): "any norm",
            ("token",): "any norm per token",
            ("batch",): "any norm over the batch",
            ("none",): "no norm",
        }
        return "; ".join(f"{names[kinds]}: {', '.join(places)}" for kinds, places in variant.goes_with)
    if variant.axis == "start":
        own = "every skip type and placement without first weights of its own"
        return "no norm" if STARTS[variant.choice].needs_no_norm else own
    if variant.axis == "qk_norm":
        return "everything"
    if variant.axis == "value":
        return "every solver" if variant.choice == "none" else "each block once"
    return _skips_with(variant)


def _skips_with(variant: Declaration) -> str:
    """The skip types that a norm, a placement or a mixing goes with, in words; and if they are few, the placements."""
    found = [
        (skip, placement)
        for skip in SKIPS
        for norm in valid_norms(skip)
        for placement in valid_placements(skip, norm)
        if variant.choice in _choices(variant.axis, skip, norm, placement)
    ]
    skips = list(dict.fromkeys(skip for skip, _ in found))
    missing = [skip for skip in SKIPS if skip not in skips]
    if len(missing) < len(skips):
        return f"every skip type{' but ' if missing else ''}{', '.join(missing)}"
    placements = ", ".join(dict.fromkeys(placement for _, placement in found))
    return ", ".join(skips) + (f", any norm: {placements}" if variant.axis == "mixing" else "")


def _choices(axis: str, skip: str, norm: str, placement: str) -> list[str]:
    """What an axis has with a skip type, a norm and a placement."""
    if axis == "mixing":
        return valid_mixings(skip, norm, placement)
    if axis == "solver":
        return valid_solvers(skip, norm, placement, "none")
    if axis == "source":
        return valid_sources(skip, "none")
    return [norm, placement]


def readme_table() -> str:
    """The family as the Markdown table that stands in the README."""
    rows = ["| name | equation | flags | valid with | paper |", "|---|---|---|---|---|"]
    rows += [
        f"| {v.title} | {v.equation} | `{example(v)}` | {_valid_with(v)} | {v.paper} |"
        for v in declarations()
    ]
    return "\n".join(rows)
