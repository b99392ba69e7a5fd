"""Every search with models that are prepared for inference finds what the reference finds."""

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator, SequenceGeneratorWithAlignment

from skipln_fairseq.decoding.generator import QuickGenerator
from tests.decoding.test_generator import (
    FALLS_BACK,
    SETTINGS,
    assert_finds_the_same,
    assert_same,
    pair,
    sources,
)
from tests.models.test_inference import CLOSE, compiles


@pytest.fixture(scope="module")
def prepared():
    """A model that decodes in one call a step, and the same one as fairseq has it."""
    model, reference = pair("--skip-order", "2")
    model.make_generation_fast_()
    return model, reference


@pytest.mark.parametrize("name", [*SETTINGS, *FALLS_BACK])
def test_every_search(prepared, name):
    assert_finds_the_same(*prepared, {**SETTINGS, **FALLS_BACK}[name], close=CLOSE)


@pytest.mark.parametrize("prefix", [[[9, 5]] * 5, [[9, 1], [1, 1], [7, 8], [6, 1], [5, 9]]])
def test_prefixes(prepared, prefix):
    """Forced first words, of one sentence more than of another."""
    assert_finds_the_same(*prepared, {}, close=CLOSE, prefix_tokens=torch.tensor(prefix))


def test_another_first_word(prepared):
    assert_finds_the_same(*prepared, {}, close=CLOSE, bos_token=5)


@pytest.mark.parametrize("options", [{}, {"sampling_topk": 5}, {"sampling_topp": 0.8}])
def test_sampling_with_a_seed(prepared, options):
    found = []
    for model, kind in zip(prepared, (QuickGenerator, SequenceGenerator), strict=True):
        dictionary = model.decoder.dictionary
        strategy = search.Sampling(dictionary, **options)
        generator = kind([model], dictionary, beam_size=3, max_len_b=12, search_strategy=strategy)
        torch.manual_seed(11)
        found.append(generator.generate([model], sources()))
    assert_same(*found, CLOSE)


def test_ensembles():
    pairs = [pair("--skip-order", "3", seed=seed) for seed in (1, 2)]
    models, references = (list(side) for side in zip(*pairs, strict=True))
    for model in models:
        model.make_generation_fast_()
    dictionary = models[0].decoder.dictionary
    ours = QuickGenerator(models, dictionary, beam_size=3, max_len_b=12)
    theirs = SequenceGenerator(references, dictionary, beam_size=3, max_len_b=12)
    assert_same(ours.generate(models, sources()), theirs.generate(references, sources()), CLOSE)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_alignments(prepared, kind):
    found = []
    sample = sources()
    sample["target"] = torch.full((5, 3), 4)
    for model in prepared:
        generator = SequenceGeneratorWithAlignment(
            [model], model.decoder.dictionary, beam_size=2, max_len_b=8, print_alignment=kind
        )
        found.append(generator.generate([model], sample))
    for ours, theirs in zip(*found, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one["tokens"].tolist() == other["tokens"].tolist()
            if kind == "hard":
                assert one["alignment"] == other["alignment"]
            else:
                numbers = [
                    torch.tensor([[float(number) for number in row] for row in each["alignment"]])
                    for each in (one, other)
                ]
                torch.testing.assert_close(*numbers, **CLOSE)


@compiles
def test_batches_one_after_another_share_no_memory(prepared):
    """Space that a decoding leaves to the next, and searches that go on side by side."""
    model, _ = prepared
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=3, max_len_b=12)
    first = generator.generate([model], sources())
    for sentences, seed in ((9, 4), (2, 5), (5, 3)):
        last = generator.generate([model], sources(sentences, seed=seed))
    assert_same(last, first, {"rtol": 0, "atol": 0})


@compiles
@torch.no_grad()
def test_two_decodings_at_a_time(prepared):
    model, reference = prepared
    found = {}
    for one in (model, reference):
        states, steps = [{}, {}], []
        outs = [one.encoder(**sources(3, seed=seed)["net_input"]) for seed in (1, 2)]
        words = [torch.tensor([[2, 5, 9, 7]]).expand(3, -1), torch.tensor([[2, 8, 6, 4]]).expand(3, -1)]
        for step in range(4):
            for state, out, target in zip(states, outs, words, strict=True):
                logits, _ = one.decoder(target[:, : step + 1], encoder_out=out, incremental_state=state)
                steps.append(logits)
        found[one] = torch.stack(steps)
    torch.testing.assert_close(found[model], found[reference], **CLOSE)


@torch.no_grad()
def test_a_step_that_is_asked_for_more_is_the_reference(prepared):
    found = []
    for model in prepared:
        given = {"encoder_out": model.encoder(**sources(3)["net_input"]), "incremental_state": {}}
        words = torch.tensor([[2], [2], [2]])
        found.append(model.decoder(words, **given, features_only=True)[0])
    assert found[0].size(-1) == prepared[0].decoder.embed_tokens.embedding_dim
    torch.testing.assert_close(*found, **CLOSE)
