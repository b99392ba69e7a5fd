"""The family: the flags of its axes, and the table of all choices and of what they go with.

Everything here follows from what the variants declare (:mod:`..nn.variant`).
"""

from collections.abc import Iterator

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
)
from ..nn.variant import Declaration, Option

__all__ = [
    "AXES",
    "REGISTRIES",
    "declarations",
    "example",
    "flag_of",
    "option_owners",
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
    "embedding": "--embedding-norm",
    "start": "--initialisation",
}
"""The flag of each axis."""


REGISTRIES = (SKIPS, NORMS, PLACEMENTS, MIXINGS, SOLVERS, VALUES, SOURCES, QK_NORMS, EMBEDDINGS, STARTS)


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
