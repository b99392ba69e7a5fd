"""``--no-repeat-ngram-size`` against the definition: no n-gram stands twice in a translation."""

import math

import pytest
import torch

from skipln_fairseq.compat.repeated_ngrams import BlockRepeatedNGrams
from tests.support.commands import run

PADDING = 1


def repeats(words, size):
    ngrams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return len(set(ngrams)) < len(ngrams)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_exactly_the_words_that_would_repeat_are_blocked(size, compiled):
    torch.manual_seed(size)
    rows, words, longest, written = 64, 7, 12, 8
    tokens = torch.full((rows, longest), PADDING)
    tokens[:, : written + 1] = torch.randint(4, words, (rows, written + 1))
    block = BlockRepeatedNGrams(size)
    block = torch.jit.script(block) if compiled else block
    found = block(tokens, torch.zeros(rows, words), 16, 4, written)
    blocked = 0
    for row in range(rows):
        history = tokens[row, 1 : written + 1].tolist()
        before = {tuple(history[i : i + size]) for i in range(written - size + 1)}
        for word in range(words):
            expected = (*history[written - size + 1 :], word) in before
            blocked += expected
            assert (found[row, word] == -math.inf) == expected
    assert blocked > rows / 4


@pytest.mark.parametrize("step", [0, 1, 2])
def test_nothing_is_blocked_before_there_is_an_ngram(step):
    tokens = torch.full((2, 10), 5)
    assert (BlockRepeatedNGrams(3)(tokens, torch.zeros(2, 7), 1, 2, step) == 0).all()


def test_translations_repeat_no_bigram(data, trained):
    generate = (
        "fairseq-generate",
        data,
        "--path",
        trained.checkpoint,
        "--cpu",
        "--min-len=15",
        "--max-len-b=25",
    )
    free, blocked = (
        [line.split("\t")[2].split() for line in run(*generate, *more).lines("H")]
        for more in ((), ("--no-repeat-ngram-size=2",))
    )
    assert any(repeats(words, 2) for words in free)
    assert len(blocked) == len(free)
    assert not any(repeats(words, 2) for words in blocked)
