"""The family as Markdown: for each axis a table of its choices, then what goes together.

The tables stand in a page between :data:`BEGIN` and :data:`END`; :func:`write_into` renews them there.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..common.errors import UserError
from ..common.files import write_text
from ..models.family import REGISTRIES, example
from ..nn import MIXINGS, NORMS, PLACEMENTS, SKIPS, SOLVERS, SOURCES, STARTS
from ..nn.valid import (
    valid_mixings,
    valid_norms,
    valid_placements,
    valid_qk_norms,
    valid_solvers,
    valid_sources,
)
from ..nn.variant import Declaration, Registry

__all__ = ["BEGIN", "END", "family_tables", "write_into"]

BEGIN = "<!-- family: begin (renew with: python -m skipln_fairseq.family --write docs/connections.md) -->"
END = "<!-- family: end -->"

HEADINGS = {
    "skip": "Skip types",
    "norm": "Norms",
    "placement": "Placements",
    "mixing": "Mixing of depths",
    "solver": "Encoder solvers",
    "value": "Value residuals",
    "source": "Sources of cross-attention",
    "qk_norm": "Norms of queries, keys and values",
    "embedding": "Word vectors",
    "start": "First weights",
}
TOGETHER = (
    "✓: with every norm. *token*: only with norms that are computed over one token, that is all but `batch` and "
    "`power`. **Bold**: the skip type's own placement, taken if you choose none. An empty field: the combination is "
    "refused in one line, before anything is built."
)
READS = {"token": "one token", "batch": "the whole batch", "none": "–"}


def family_tables() -> str:
    """All tables, with their headings."""
    parts = []
    for registry in REGISTRIES:
        parts += [f"### {HEADINGS[registry.axis]}", _choices(registry), *_pictures(registry)]
    parts += ["## What goes together", TOGETHER]
    parts += ["### Which placement goes with which skip type", _placements()]
    parts += ["### What between the blocks goes with which skip type", _between_blocks()]
    return "\n\n".join(parts)


def write_into(page: Path) -> None:
    """Renew the tables in a page.

    Raises:
        UserError: for a page that cannot be read, or has no place for them.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--write {page}: {error}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"--write {page}: the page lacks the lines {BEGIN!r} and {END!r}")
    write_text(page, f"{before}{BEGIN}\n\n{family_tables()}\n\n{END}{after}")


def _pictures(registry: Registry) -> list[str]:
    """The wiring of each choice, where :mod:`.wiring` draws it."""
    if registry not in (SKIPS, PLACEMENTS):
        return []
    each = [
        f"![{v.title}: {v.equation}](wiring/{registry.axis}-{v.choice}.svg)" for v in registry.declarations()
    ]
    return ["\n".join(each)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], ruler: str = "---") -> str:
    lines = [head, ["---", *[ruler] * (len(head) - 1)], *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _placements() -> str:
    """Skip types × placements; the choice without a norm stands in a column of its own."""
    rows = []
    for skip in SKIPS:
        kinds = {place: _kinds(skip, place) for place in PLACEMENTS}
        cells = ["✓" if "batch" in found else "token" if found else "" for found in kinds.values()]
        cells = [f"`{skip}`", *cells, "✓" if "none" in valid_norms(skip) else ""]
        own = valid_norms(skip)[0]
        first = 1 + [*PLACEMENTS].index(valid_placements(skip, own)[0]) if own != "none" else -1
        cells[first] = f"**{cells[first]}**"
        rows.append(cells)
    return _table(["skip type", *(f"`{place}`" for place in PLACEMENTS), "no norm"], rows, ":-:")


def _kinds(skip: str, placement: str) -> set[str]:
    """The kinds of norms, none left out, that may stand at a placement."""
    norms = (norm for norm in valid_norms(skip) if placement in valid_placements(skip, norm))
    return {NORMS[norm].declaration.kind for norm in norms} - {"none"}


def _between_blocks() -> str:
    """Skip types × what stands between blocks: ✓ where some norm and placement allow it."""
    columns: list[tuple[str, Callable[[str, str, str], list[str]]]] = [
        *((name, valid_mixings) for name in MIXINGS if name != "none"),
        *((name, lambda *choice: valid_solvers(*choice, "none")) for name in SOLVERS if name != "none"),
        *((name, lambda skip, *_: valid_sources(skip, "none")) for name in SOURCES if name != "last"),
    ]
    rows = [
        [f"`{skip}`", *("✓" if _allowed(skip, name, valid) else "" for name, valid in columns)]
        for skip in SKIPS
    ]
    return _table(["skip type", *(f"`{name}`" for name, _ in columns)], rows, ":-:")


def _allowed(skip: str, name: str, valid: Callable[[str, str, str], list[str]]) -> bool:
    return any(
        name in valid(skip, norm, placement)
        for norm in valid_norms(skip)
        for placement in valid_placements(skip, norm)
    )


def _flags(variant: Declaration) -> str:
    """Each flag with its value as code of its own, so that a line breaks between them."""
    flags = example(variant).split(" --")
    return " ".join(f"`{'--' if number else ''}{flag}`" for number, flag in enumerate(flags))


def _placements_of(qk_norm: str) -> str:
    found = [f"`{place}`" for place in PLACEMENTS if qk_norm in valid_qk_norms(place)]
    without = [f"`{place}`" for place in PLACEMENTS if f"`{place}`" not in found]
    if len(found) <= len(without):
        return " ".join(found)
    return "any placement" + (f" but {' '.join(without)}" if without else "")


def _choices(registry: Registry) -> str:
    """The choices of one axis."""
    further: dict[str, tuple[str, Callable[[Declaration], str]]] = {
        "norm": ("computed over", lambda norm: READS[norm.kind]),
        "qk_norm": ("goes with", lambda norm: _placements_of(norm.choice)),
        "start": ("goes with", lambda start: "no norm" if STARTS[start.choice].needs_no_norm else "any norm"),
    }
    title, cell = further.get(registry.axis, ("", None))
    rows = [
        [v.title, v.equation, _flags(v), *([cell(v)] if cell else []), str(v.paper)]
        for v in registry.declarations()
    ]
    return _table(["name", "equation", "flags", *([title] if cell else []), "paper"], rows)
