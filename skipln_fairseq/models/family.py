"""The family: which choices on the three axes mean something together, and the table of them all.

Everything here follows from what the variants declare (:mod:`..nn.variant`).
"""

from collections.abc import Iterator

from ..nn import NORMS, PLACEMENTS, QK_NORMS, SKIPS, STARTS, norms_of
from ..nn.variant import Declaration, Option

__all__ = [
    "AXES",
    "REGISTRIES",
    "declarations",
    "example",
    "option_owners",
    "readme_table",
    "valid_norms",
    "valid_placements",
]


AXES = {
    "skip": "--skip-type",
    "norm": "--skip-norm",
    "placement": "--norm-placement",
    "qk_norm": "--qk-norm",
    "start": "--initialisation",
}
"""The flag of each axis."""


REGISTRIES = (SKIPS, NORMS, PLACEMENTS, QK_NORMS, STARTS)


def declarations() -> Iterator[Declaration]:
    """Of every variant, axis by axis."""
    for axis in REGISTRIES:
        yield from axis.declarations()


def option_owners() -> dict[str, dict[str, Option]]:
    """For each flag of an option the options behind it, by what the user calls their variants."""
    owners: dict[str, dict[str, Option]] = {}
    for variant in declarations():
        for option in variant.options:
            flag = "" if variant.axis == "skip" else f"{AXES[variant.axis]} "
            owners.setdefault(option.flag, {})[f"{flag}{variant.choice}"] = option
    return owners


def valid_norms(skip: str) -> list[str]:
    """The norms that a skip type goes with; the first is its own, for when none is chosen."""
    rows = SKIPS[skip].declaration.goes_with
    return list(dict.fromkeys(norm for kinds, _ in rows for norm in norms_of(kinds)))


def valid_placements(skip: str, norm: str) -> list[str]:
    """The placements of ``norm`` that go with a skip type; the first is for when none is chosen."""
    kind, rows = NORMS[norm].declaration.kind, SKIPS[skip].declaration.goes_with
    return [placement for kinds, placements in rows if kind in kinds for placement in placements]


def example(variant: Declaration) -> str:
    """Flags that choose a variant, as they stand on a command line."""
    own = f"{AXES[variant.axis]} {variant.choice}"
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
    skips = [
        skip
        for skip in SKIPS
        for norm in valid_norms(skip)
        if variant.choice in ([norm] if variant.axis == "norm" else valid_placements(skip, norm))
    ]
    missing = [skip for skip in SKIPS if skip not in skips]
    if len(missing) < len(skips):
        return f"every skip type{' but ' if missing else ''}{', '.join(missing)}"
    return ", ".join(dict.fromkeys(skips))


def readme_table() -> str:
    """The family as the Markdown table that stands in the README."""
    rows = ["| name | equation | flags | valid with | paper |", "|---|---|---|---|---|"]
    rows += [
        f"| {v.title} | {v.equation} | `{example(v)}` | {_valid_with(v)} | {v.paper} |"
        for v in declarations()
    ]
    return "\n".join(rows)
