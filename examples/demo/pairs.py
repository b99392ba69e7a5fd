"""Sentence pairs and how they are cleaned and divided into training, validation and test parts."""

import hashlib
import re
from dataclasses import dataclass

from skipln_fairseq.common.errors import UserError

__all__ = ["Limits", "Pair", "divide", "length"]

# Scripts that put no space between words: two letters count as a word.
UNSPACED = re.compile(r"[\u0e00-\u0fff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation.

    ``page``: what is held out as a whole; sentences of one page resemble one another.
    ``certain``: the alignment is beyond doubt; only such pairs become validation and test sentences.
    """

    page: str
    source: str
    target: str
    certain: bool = True


@dataclass(frozen=True)
class Limits:
    """Which pairs are kept and how many are held out. Lengths are those of :func:`length`."""

    max_words: int = 25
    min_words: int = 4  # in the held-out parts; training also keeps shorter pairs
    valid: int = 500
    test: int = 1000


def divide(pairs: list[Pair], limits: Limits, seed: int) -> dict[str, list[Pair]]:
    """Clean ``pairs`` and divide them into "train", "valid" and "test".

    Whole pages are held out, drawn by ``seed``. As pages also repeat each other's sentences, a training pair
    whose source *or* target also stands in a held-out part is dropped, and a validation pair that stands in
    the test part. "The same" here ignores case, digits, punctuation and white space.

    Raises:
        UserError: too few pairs are left.
    """
    kept = _clean(pairs, limits)
    pages: dict[str, list[Pair]] = {}
    for pair in kept:
        pages.setdefault(pair.page, []).append(pair)
    queue = sorted(pages, key=lambda page: hashlib.sha256(f"{seed} {page}".encode()).digest())

    parts: dict[str, list[Pair]] = {}
    seen: set[str] = set()
    for part, size in (("test", limits.test), ("valid", limits.valid)):
        chosen: list[Pair] = []
        while queue and len(chosen) < size:
            for pair in pages[queue.pop(0)]:
                if _may_be_held_out(pair, limits) and seen.isdisjoint(_keys(pair)):
                    chosen.append(pair)
        # Only now: a page's own repetitions are gone already (see _clean), so this bars the later parts.
        parts[part] = chosen[:size]
        seen.update(key for pair in chosen for key in _keys(pair))
    parts["train"] = [p for page in queue for p in pages[page] if seen.isdisjoint(_keys(p))]

    if len(parts["valid"]) < limits.valid or len(parts["train"]) < limits.valid + limits.test:
        raise UserError(
            f"too few sentence pairs: {len(kept)} are usable (up to {limits.max_words} words, source and "
            f"target different, no repetitions), but {limits.test} test, {limits.valid} validation and at "
            f"least {limits.valid + limits.test} training pairs are needed"
        )
    return parts


def length(text: str) -> int:
    """Words, as white space separates them; about two letters each in a script without spaces."""
    return len(UNSPACED.sub("", text).split()) + (len(UNSPACED.findall(text)) + 1) // 2


def _clean(pairs: list[Pair], limits: Limits) -> list[Pair]:
    """Without empty, untranslated, long, lopsided and repeated pairs."""
    kept: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        lengths = length(pair.source), length(pair.target)
        if (
            min(lengths) > 0
            and max(lengths) <= limits.max_words
            and max(lengths) <= 2 * min(lengths) + 3  # beyond that one side says more than the other
            and "" not in _keys(pair)
            and pair.source != pair.target
        ):
            key = _keys(pair)
            if key not in kept or pair.certain > kept[key].certain:
                kept[key] = pair
    return list(kept.values())


def _may_be_held_out(pair: Pair, limits: Limits) -> bool:
    return pair.certain and min(length(pair.source), length(pair.target)) >= limits.min_words


def _keys(pair: Pair) -> tuple[str, str]:
    """What tells sentences apart: their letters. The language is part of it."""
    letters = [re.sub(r"[\W\d_]+", "", text.casefold()) for text in (pair.source, pair.target)]
    return ("s" + letters[0] if letters[0] else "", "t" + letters[1] if letters[1] else "")
