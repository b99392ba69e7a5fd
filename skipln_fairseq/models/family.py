"""The family: which skip × norm × placement combinations mean something, and what each is called.

One table. It refuses every other combination when a model is built, the README's table is
:func:`readme_table`, and the tests draw their combinations from it.
"""

from dataclasses import dataclass

__all__ = ["FAMILY", "OPTIONS", "Member", "readme_table", "valid_norms", "valid_placements"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "expanded": ("skip_scale",),
    "recursive": ("skip_order", "share_skip_norms"),
}
"""The further flags that each skip type uses; given with another type they are refused."""


@dataclass(frozen=True)
class Member:
    """One row: the combinations of ``norms`` × ``placements`` that share a name and an equation."""

    name: str
    equation: str
    skip: str
    norms: tuple[str, ...]
    placements: tuple[str, ...]
    flags: str
    paper: str


RSKIP_PAPER = "[Liu et al. 2020](https://arxiv.org/abs/2105.07205)"

FAMILY: tuple[Member, ...] = (
    Member(
        "Post-LN (stock)",
        "LN(x + F(x))",
        "plain",
        ("layer",),
        ("post",),
        "--skip-type plain",
        "[Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)",
    ),
    Member(
        "Pre-LN (stock)",
        "x + F(LN(x))",
        "plain",
        ("layer",),
        ("pre",),
        "--skip-type plain --encoder-normalize-before --decoder-normalize-before",
        "[Xiong et al. 2020](https://arxiv.org/abs/2002.04745)",
    ),
    Member(
        "skip without norm",
        "x + F(x)",
        "plain",
        ("none",),
        ("post",),
        "--skip-type plain --skip-norm none",
        "[He et al. 2016](https://arxiv.org/abs/1512.03385)",
    ),
    Member(
        "xSkip",
        "λx + F(x)",
        "expanded",
        ("none",),
        ("post",),
        "--skip-type expanded --skip-scale λ --skip-norm none",
        RSKIP_PAPER,
    ),
    Member(
        "xSkip+LN",
        "LN(λx + F(x))",
        "expanded",
        ("layer",),
        ("post",),
        "--skip-type expanded --skip-scale λ",
        RSKIP_PAPER,
    ),
    Member(
        "rSkip+LN",
        "y₁ = LN(x + F(x)), yₖ = LN(x + yₖ₋₁)",
        "recursive",
        ("layer",),
        ("post",),
        "--skip-type recursive --skip-order K [--share-skip-norms]",
        RSKIP_PAPER,
    ),
)


def valid_norms(skip: str) -> list[str]:
    """The norms that a skip type goes with."""
    return sorted({norm for member in FAMILY if member.skip == skip for norm in member.norms})


def valid_placements(skip: str, norm: str) -> list[str]:
    """The placements of ``norm`` that go with a skip type."""
    members = (member for member in FAMILY if member.skip == skip and norm in member.norms)
    return sorted({placement for member in members for placement in member.placements})


def readme_table() -> str:
    """The family as the Markdown table that stands in the README."""
    rows = ["| name | equation | flags | paper |", "|---|---|---|---|"]
    rows += [f"| {m.name} | {m.equation} | `{m.flags}` | {m.paper} |" for m in FAMILY]
    return "\n".join(rows)
