"""What a variant says of itself, where its class stands: name, equation, paper, options, what it goes with.

A variant is a choice on one axis. Its file declares it::

    @SKIPS.declare(
        "expanded",
        title="xSkip",
        equation="λx + F(x), λ fixed",
        paper=Paper("Liu et al. 2020a", "2105.07205"),
        options=(Option("scale", "skip_scale", "scale of x", metavar="λ"),),
        goes_with=ANYWHERE,
    )
    class ExpandedSkip(Skip): ...

Registry, flags, refusals, tables and tests follow from that. Every file of the axis' folder is imported with it, so a
new file is all that a new variant takes.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

KINDS = ("token", "batch", "none")
"""What a norm may read."""

__all__ = ["KINDS", "Declaration", "Option", "Paper", "Registry", "Variant", "import_variants"]


@dataclass(frozen=True)
class Option:
    """A number, a switch or a choice of words that a variant is built with.

    Attributes:
        name: the keyword argument. ``OPTIONS`` in ``tests/support/oracle_stack.py`` gives some names
            values of their own.
        flag: the flag that sets it, as argparse stores it; several variants may share one.
        help: what it is. fairseq's ``--help`` ends before it asks an architecture for its flags.
        metavar: the symbol that the equation has for it; None for a switch.
        kind: of a number: float or int.
        least, above, below, most: the number is at least, more than, less than, at most that. What depends on the width
            a skip rule refuses.
        default: the value where no flag is given; None: it must be given.
        drawn: for tests, the range from which values are drawn; some tests take its middle.
        choices: of a choice of words, those that are valid.
    """

    name: str
    flag: str
    help: str
    metavar: str | None = None
    kind: type = float
    least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    most: float = math.inf
    default: Any = None
    drawn: tuple[float, float] = (0.5, 2.0)
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """The value of what was given, text, number or word.

        Raises:
            ValueError: saying what is valid.
        """
        if self.choices:
            if value not in self.choices:
                raise ValueError(self.valid())
            return value
        if self.metavar is None:
            if value not in (True, False):
                raise ValueError(self.valid())
            return bool(value)
        try:
            number = self.kind(str(value))
        except ValueError:
            number = math.nan
        within = self.least <= number <= self.most and self.above < number < self.below
        if not (math.isfinite(number) and within):
            raise ValueError(self.valid())
        return number

    def valid(self) -> str:
        """What is valid, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.metavar is None:
            return "True or False"
        kind = "a whole number" if self.kind is int else "a finite number"
        bounds = (
            ("of at least", self.least),
            ("above", self.above),
            ("of at most", self.most),
            ("below", self.below),
        )
        said = [f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound)]
        return " ".join([kind, " and ".join(said)]) if said else kind


@dataclass(frozen=True)
class Paper:
    """Who published it, and where.

    Attributes:
        name: authors and year, as the field cites it.
        arxiv: its number there.
        url: the address of what is not there.
    """

    name: str
    arxiv: str = ""
    url: str = ""

    @property
    def year(self) -> int:
        """As the field cites it."""
        found = re.search(r"\d{4}", self.name)
        assert found is not None, self.name
        return int(found[0])

    def __str__(self) -> str:
        return f"[{self.name}]({self.url or f'https://arxiv.org/abs/{self.arxiv}'})"


@dataclass(frozen=True)
class Declaration:
    """All that is known of a variant besides what it computes.

    Attributes:
        axis: skip, norm, placement, mixing, solver, value, source, qk_norm, embedding or start.
        choice: the name that the axis' flag takes.
        title: what the field calls it.
        equation: as the tables print it; N is the norm.
        paper: where it was published, or in words where it comes from.
        options: what it is built with.
        goes_with: of a skip rule, the kinds of norms and the placements that it means something with; what the first
            of them gives is what it takes when no norm and no placement is chosen. Of a mixing and a solver the same.
        qk_norms: of a placement, the norms of queries, keys and values that it goes with, the first of them for when
            none is chosen; empty: all, and none unless chosen.
        has_forms: whether its authors' code has another form than the one that this plugin had first.
        from_depth: whether what it computes, and not only its first weights, follows from the depth of the model.
        kind: of a norm, what it reads: a token, the batch, or nothing.
        example: the flags of the tables' command, where its own name and its options' defaults do not suffice.
    """

    axis: str
    choice: str
    title: str
    equation: str
    paper: Paper | str
    options: tuple[Option, ...] = ()
    goes_with: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    qk_norms: tuple[str, ...] = ()
    has_forms: bool = False
    from_depth: bool = False
    kind: str = ""
    example: str = ""


class Variant:
    """What every variant is: a class that is declared."""

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and knows few types
        declaration: ClassVar[Declaration]


V = TypeVar("V", bound=Variant)
C = TypeVar("C", bound=Variant)


class Registry(Mapping[str, type[V]], Generic[V]):
    """The variants of one axis by name, in the order of their papers.

    Args:
        axis: its name in a :class:`Declaration`.
        about: what is chosen on it, as a heading.
    """

    def __init__(self, axis: str, about: str):
        self.axis = axis
        self.about = about
        self._classes: dict[str, type[V]] = {}

    def declare(self, choice: str, **what: Any) -> Callable[[type[C]], type[C]]:
        """Decorate a class with its :class:`Declaration`, which it has as ``declaration`` from then on.

        Raises:
            KeyError: where the name is taken.
            ValueError: where a norm does not say what it reads, or a skip rule what it goes with.
        """

        def register(cls: Any) -> Any:
            if choice in self._classes:
                raise KeyError(f"{self.axis} {choice} is declared twice")
            cls.declaration = _checked(Declaration(self.axis, choice, **what))
            self._classes[choice] = cls
            self._classes = dict(sorted(self._classes.items(), key=_age))
            return cls

        return register

    def __getitem__(self, choice: str) -> type[V]:
        return self._classes[choice]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def declarations(self) -> list[Declaration]:
        """Of all its variants."""
        return [cls.declaration for cls in self._classes.values()]


def _checked(declaration: Declaration) -> Declaration:
    name = f"{declaration.axis} {declaration.choice!r}"
    if declaration.axis == "norm" and declaration.kind not in KINDS:
        raise ValueError(f"{name}: kind {declaration.kind!r}: valid are {', '.join(KINDS)}")
    if declaration.axis == "skip" and not declaration.goes_with:
        raise ValueError(f"{name}: goes_with is missing: ANYWHERE, or pairs of kinds of norms and placements")
    for kinds, _ in declaration.goes_with:
        if not set(kinds) <= set(KINDS):
            raise ValueError(f"{name}: goes_with {kinds!r}: valid kinds of norms are {', '.join(KINDS)}")
    return declaration


def _age(item: tuple[str, type[Variant]]) -> tuple[Any, ...]:
    """What has no paper stands last."""
    paper = item[1].declaration.paper
    return (paper.year, paper.arxiv, item[0]) if isinstance(paper, Paper) else (9999, "", item[0])


def import_variants(folder: Any, package: str) -> None:
    """Import every file of an axis' folder, which declare themselves."""
    for module in iter_modules(folder):
        import_module(f"{package}.{module.name}")
