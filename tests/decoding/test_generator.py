"""Beam search that takes the shorter way finds what fairseq's finds."""

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator

from skipln_fairseq.decoding.generator import QuickGenerator
from tests.support.build import CONNECTIONS, build, build_connection_model

CLOSE = {"rtol": 1e-5, "atol": 1e-4}
# Without norms logits are of order 300 where others' are of order 20: fairseq's own are 9e-4 from those in float64.
WITHOUT_NORM = 1.5e-3


def sharpened(model, by=6):
    """Let a random model have opinions, so that no two hypotheses are within rounding of each other."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_tokens" in name or "output_projection" in name:
                parameter.mul_(by)
    return model.eval()


def sources(sentences=5, longest=9, seed=3):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, 44, (sentences, longest), generator=generator)
    tokens[:, -1] = 2
    for row in range(1, sentences):
        tokens[row, : row % (longest - 1)] = 1
    return {"net_input": {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}}


def assert_same(ours, theirs, close):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert [one["tokens"].tolist() for one in a] == [one["tokens"].tolist() for one in b]
        for one, other in zip(a, b, strict=True):
            assert one.keys() == other.keys()
            for key in ("score", "positional_scores", "attention", "alignment"):
                assert one[key].dtype == other[key].dtype
                torch.testing.assert_close(one[key], other[key], **close)


def assert_finds_the_same(
    model, reference, settings, sample=None, quick=True, monkeypatch=None, close=CLOSE, **call
):
    sample = sample or sources()
    dictionary = model.decoder.dictionary
    settings = {"beam_size": 3, "max_len_b": 12} | settings
    make = settings.pop("search", None)
    ours = QuickGenerator([model], dictionary, search_strategy=make and make(dictionary), **settings)
    theirs = SequenceGenerator([reference], dictionary, search_strategy=make and make(dictionary), **settings)
    taken = []
    if monkeypatch is not None:
        for name in ("read", "search_by_steps"):
            stock = getattr(QuickGenerator, name)
            monkeypatch.setattr(QuickGenerator, name, lambda *a, stock=stock: taken.append(1) or stock(*a))
    assert_same(ours.generate([model], sample, **call), theirs.generate([reference], sample, **call), close)
    if monkeypatch is not None:
        assert bool(taken) == quick


def pair(*flags, seed=1):
    """The same model with fast and with reference kernels."""
    return [
        sharpened(build("transformer_rskip", *flags, "--kernels", form, seed=seed))
        for form in ("fast", "reference")
    ]


SETTINGS = {
    "beam 1": {"beam_size": 1},
    "beam 5": {"beam_size": 5},
    "as many as words": {"beam_size": 50},
    "no normalisation": {"normalize_scores": False},
    "length penalty": {"len_penalty": 0.3},
    "unknown words": {"unk_penalty": 3.0},
    "temperature": {"temperature": 0.7},
    "least length": {"min_len": 6},
    "short": {"max_len_b": 3},
    "by source": {"max_len_a": 0.5, "max_len_b": 2},
    "forbidden words": {"tokens_to_suppress": ("w3", "w7", "w11")},
    "other end": {"eos": 9},
}
FALLS_BACK = {
    "diverse": {"beam_size": 4, "search": lambda dictionary: search.DiverseBeamSearch(dictionary, 2, 0.5)},
    "siblings": {"search": lambda dictionary: search.DiverseSiblingsSearch(dictionary, 0.5)},
    "n-grams": {"no_repeat_ngram_size": 2},
    "source length": {"match_source_len": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_plain_beam_search(name, monkeypatch):
    model, reference = pair()
    assert_finds_the_same(model, reference, SETTINGS[name], monkeypatch=monkeypatch)


@pytest.mark.parametrize("name", FALLS_BACK)
def test_other_searches(name, monkeypatch):
    model, reference = pair()
    assert_finds_the_same(model, reference, FALLS_BACK[name], quick=False, monkeypatch=monkeypatch)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_every_connection(name, monkeypatch):
    model = sharpened(build_connection_model(name))
    reference = sharpened(build_connection_model(name, "--kernels", "reference"))
    close = {**CLOSE, "atol": WITHOUT_NORM} if name == "no-norm" else CLOSE
    assert_finds_the_same(model, reference, {}, monkeypatch=monkeypatch, close=close)
