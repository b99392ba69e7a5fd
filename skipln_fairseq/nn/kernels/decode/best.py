"""The best continuations of a beam search's hypotheses."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import TYPES
from .library import loaded, pointer

__all__ = ["Choice", "best"]


class _Search(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("sentences", "hypotheses", "words", "beam", "best", "end", "only")
        ),
        ("changes", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("changed", "change")),
        ("temperature", ctypes.c_float),
    )


class _Choice(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("over", "scores", "words", "rows", "end_scores", "end_rows")
    )


@dataclass(frozen=True)
class Choice:
    """What becomes of each sentence's hypotheses in a step; all are (sentences, beam).

    Attributes:
        over: which of those that go on have ended before, and are kept for want of others.
        scores: float32, of those that go on, the best first.
        words: int64, their new words.
        rows: int64, the rows of logits which they continue.
        end_scores: float32, of those that end now, −∞ for the others.
        end_rows: int64, the rows which they continue.
    """

    over: Tensor
    scores: Tensor
    words: Tensor
    rows: Tensor
    end_scores: Tensor
    end_rows: Tensor


def best(
    logits: Tensor,
    before: Tensor | None,
    over: Tensor,
    end: int,
    *,
    changes: Mapping[int, float],
    only: int | None = None,
    temperature: float = 1.0,
) -> Choice:
    """Score all continuations, log_softmax(logits / temperature), changed, + before, and choose as fairseq does.

    Candidates are a sentence's 2 · beam best. Of these end those within the beam that have the end word; the beam
    best others go on.

    Args:
        logits: (sentences · hypotheses, words).
        before: (sentences · hypotheses), float32, the scores so far, or None.
        over: (sentences, beam), as the step before has returned it.
        end: the word that ends a hypothesis.
        changes: what is added to the log-probability of some words.
        only: the one word that is considered, or None for all.
        temperature: above 0.
    """
    logits = logits.contiguous()
    (sentences, beam), (rows, words) = over.shape, logits.shape
    hypotheses = rows // sentences
    changed = (ctypes.c_int64 * len(changes))(*changes.keys())
    change = (ctypes.c_float * len(changes))(*changes.values())
    search = _Search(
        *(sentences, hypotheses, words, beam, min(2 * beam, hypotheses * words - 1)),
        *(
            end,
            -1 if only is None else only,
            len(changes),
            ctypes.addressof(changed),
            ctypes.addressof(change),
        ),
        temperature,
    )
    scores, end_scores = torch.empty(2, sentences, beam)
    new, from_rows, end_rows = torch.empty(3, sentences, beam, dtype=torch.int64)
    choice = Choice(over.clone(), scores, new, from_rows, end_scores, end_rows)
    loaded("best").best(
        *(ctypes.byref(search), TYPES[logits.dtype], pointer(logits), pointer(before)),
        ctypes.byref(_Choice(*(tensor.data_ptr() for tensor in vars(choice).values()))),
        ctypes.c_int64(torch.get_num_threads()),
    )
    return choice
