"""Which choices on the axes mean something together: the one table behind flags, tables and the Python class.

All of it follows from what the variants declare (:mod:`.variant`).
"""

from .mixing import MIXINGS
from .norm import NORMS, norms_of
from .placement import PLACEMENTS
from .qk_norm import QK_NORMS
from .skip import SKIPS
from .solver import SOLVERS
from .source import SOURCES
from .value import VALUES
from .variant import Registry

__all__ = [
    "valid_mixings",
    "valid_norms",
    "valid_placements",
    "valid_qk_norms",
    "valid_solvers",
    "valid_sources",
    "valid_values",
]


def valid_norms(skip: str) -> list[str]:
    """The norms that a skip type goes with; the first is its own, for when none is chosen."""
    rows = SKIPS[skip].declaration.goes_with
    return list(dict.fromkeys(norm for kinds, _ in rows for norm in norms_of(kinds)))


def valid_placements(skip: str, norm: str) -> list[str]:
    """The placements of ``norm`` that go with a skip type; the first is for when none is chosen."""
    kind, rows = NORMS[norm].declaration.kind, SKIPS[skip].declaration.goes_with
    return [placement for kinds, placements in rows if kind in kinds for placement in placements]


def valid_mixings(skip: str, norm: str, placement: str) -> list[str]:
    """The mixings of depths that go with the other choices."""
    return [
        name
        for name in _valid_with_norm(MIXINGS, norm, placement)
        # what stands in the place of the skip goes with no other rule than the one it is instead of
        if (MIXINGS[name].skip is None or skip == "plain")
        and (PLACEMENTS[placement].is_one_kind or not MIXINGS[name].needs_one_kind)
        # between blocks a stream that is merged at the end is no x, and of another width than the embedding
        and (name == "none" or not SKIPS[skip].merges)
    ]


def valid_qk_norms(placement: str) -> list[str]:
    """The norms of queries, keys and values that go with a placement; the first is for when none is chosen."""
    return list(PLACEMENTS[placement].declaration.qk_norms or QK_NORMS)


def valid_solvers(skip: str, norm: str, placement: str, mixing: str) -> list[str]:
    """The solvers that go with the other choices: all, where a block is a function of x that can be applied again."""
    again = not (SKIPS[skip].merges or SKIPS[skip].measures or MIXINGS[mixing].skip)
    return [
        name
        for name in _valid_with_norm(SOLVERS, norm, placement)
        if name == "none" or (again and (mixing == "none" or not SOLVERS[name].remembers))
    ]


def valid_values(solver: str) -> list[str]:
    """The value residuals that go with a solver: where a block is applied again, there is more than one V_1."""
    return [name for name in VALUES if "none" in (name, solver)]


def valid_sources(skip: str, mixing: str) -> list[str]:
    """The sources of attention to the encoder that go with its other choices: those that read the outputs of blocks
    need outputs that are of one width and not mixed by themselves."""
    return [
        name
        for name in SOURCES
        if not SOURCES[name].reads_outputs or (mixing == "none" and not SKIPS[skip].merges)
    ]


def _valid_with_norm(axis: Registry, norm: str, placement: str) -> list[str]:
    kind = NORMS[norm].declaration.kind
    return [
        variant.choice
        for variant in axis.declarations()
        if not variant.goes_with  # of the one that changes nothing
        or any(kind in kinds and placement in places for kinds, places in variant.goes_with)
    ]
