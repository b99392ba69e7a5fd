"""A beam search over a whole batch in one call, or a few."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .encode import Encoder, SourceStruct
from .library import loaded, pointer
from .product import Product, ProductStruct
from .space import Space
from .step import Decoder

__all__ = ["Plan", "Translations", "search"]

SECONDS = 0.1  # of a call, after which Python may be interrupted
IS_OVER, GOES_ON, NO_END = 0, 1, -3  # as the source numbers them


class _Changes(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int64), ("words", ctypes.c_void_p), ("by", ctypes.c_void_p))


class _Plan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("encoder", "decoder")),
        ("source_maps", ProductStruct),
        ("positions", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("padding", "beam", "first", "end", "shortest", "longest")),
        *((name, _Changes) for name in ("early", "late")),
        ("temperature", ctypes.c_float),
    )


class _Hypotheses(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("words", "scores", "each", "lengths", "attention")),
    )


@dataclass(frozen=True)
class Plan:
    """What is searched for.

    Attributes:
        beam: hypotheses of a sentence, fewer than there are words.
        first: the word before the first.
        end: the word that ends a hypothesis.
        shortest, longest: words of a hypothesis, without its end.
        early: what is added to the log-probability of some words, before the shortest length.
        late: likewise from then on.
        temperature: above 0.
    """

    beam: int
    first: int
    end: int
    shortest: int
    longest: int
    early: Mapping[int, float]
    late: Mapping[int, float]
    temperature: float


@dataclass(frozen=True)
class Translations:
    """Hypotheses, those of a sentence one after another in the order in which they have ended.

    Attributes:
        found: how many each sentence has.
        words: (hypotheses, longest), int64.
        lengths: (hypotheses,), int64, their ends counted.
        scores: (hypotheses,), float32, sums of log-probabilities.
        each: (hypotheses, longest), what each word adds to the score.
        attention: (hypotheses, columns of the source, longest), of the last layer, the mean over its heads.
    """

    found: Tensor
    words: Tensor
    lengths: Tensor
    scores: Tensor
    each: Tensor
    attention: Tensor


def _changes(changes: Mapping[int, float]) -> tuple[_Changes, tuple[Tensor, Tensor]]:
    words = torch.tensor(list(changes), dtype=torch.int64)
    by = torch.tensor(list(changes.values()), dtype=torch.float32)
    return _Changes(len(changes), words.data_ptr(), by.data_ptr()), (words, by)


def search(
    encoder: Encoder,
    decoder: Decoder,
    source_maps: Product,
    source: Tensor,
    positions: tuple[Tensor | None, Tensor | None],
    padding: int,
    plan: Plan,
    space: Space,
) -> Translations:
    """Search, as fairseq does.

    Args:
        encoder: of the source.
        decoder: of the hypotheses.
        source_maps: to the keys and values of all layers' attention to the source.
        source: (sentences, columns), int64, words.
        positions: what is added to the embeddings of the source, (columns, dim), and of the hypotheses,
            (longest + 1, dim), or None.
        padding: the word to which no hypothesis attends.
        plan: what is searched for.
        space: that nobody else writes to.

    Raises:
        IndexError: for a number in the source or the plan that is no word.
        AssertionError: for a sentence of which no hypothesis ends, as where logits are no numbers.
    """
    numbers = (plan.first, plan.end, *plan.early, *plan.late)
    if not 0 <= min(numbers) <= max(numbers) < decoder.words:
        raise IndexError(f"a number in {sorted({*numbers})} is none of {decoder.words} words")
    source = source.contiguous()
    early, of_early = _changes(plan.early)
    late, of_late = _changes(plan.late)
    asked = _Plan(
        *(ctypes.addressof(one.struct) for one in (encoder, decoder)),
        *(source_maps.struct, pointer(positions[1]), padding, plan.beam, plan.first, plan.end),
        *(plan.shortest, plan.longest, early, late, plan.temperature),
    )
    given = SourceStruct.of(source, positions[0])
    library, threads = loaded("step"), ctypes.c_int64(torch.get_num_threads())
    space.check(library.search_begin(space.handle, ctypes.byref(asked), ctypes.byref(given), threads))
    state = GOES_ON
    while state != IS_OVER:
        state = space.check(library.search_go(space.handle, ctypes.c_double(SECONDS), threads))
        if state == NO_END:  # as fairseq asserts it
            raise AssertionError(
                "a sentence has reached the greatest length, and no hypothesis of it has ended"
            )
    del of_early, of_late
    return _read(space, len(source), source.size(1))


def _read(space: Space, sentences: int, columns: int) -> Translations:
    library = loaded("step")
    found = torch.empty(sentences, dtype=torch.int64)
    width = library.search_sizes(space.handle, pointer(found))
    number = int(library.search_ends(space.handle))
    words = torch.empty(number, width, dtype=torch.int64)
    scores, each = torch.empty(number), torch.empty(number, width)
    lengths, attention = torch.empty(number, dtype=torch.int64), torch.zeros(number, columns, width)
    library.search_read(
        space.handle,
        ctypes.byref(_Hypotheses(width, *map(pointer, (words, scores, each, lengths, attention)))),
    )
    return Translations(found, words, lengths, scores, each, attention)
