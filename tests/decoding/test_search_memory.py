"""What a whole search in one call takes of memory, and what it does without."""

import resource

import pytest
import torch

from skipln_fairseq.decoding.generator import QuickGenerator
from skipln_fairseq.nn.kernels.decode import kind
from tests.decoding.test_generator import sources
from tests.decoding.test_search import assert_finds_the_same, made, sample_of
from tests.support.commands import run

pytestmark = pytest.mark.skipif(kind() is None, reason="no C compiler")


@pytest.fixture
def in_one_call(monkeypatch):
    """Fail where a search goes step by step."""
    monkeypatch.delattr(QuickGenerator, "search_by_steps")


@pytest.fixture(scope="module")
def pair():
    return made("--skip-order 2")


def pages(place):
    """Of this process's memory, in bytes: 0 all that it may use, 1 what is there."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[place]) * 4096


def test_batches_do_not_add_up(pair, in_one_call):
    model = pair[0]
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=5, max_len_b=20)
    samples = [sources(sentences, longest) for sentences, longest in ((1, 5), (20, 9), (7, 30), (33, 12))]
    for _ in range(3):
        for sample in samples:
            generator.generate([model], sample)
    engine = model.encoder.forward.method.__self__
    before, held = pages(1), engine.held()
    for _ in range(13):
        for sample in samples:
            generator.generate([model], sample)
    assert engine.held() == held
    assert pages(1) - before < 2**20


def test_what_grows_takes_the_place_of_what_it_was(pair, in_one_call):
    model = pair[0]
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=5, max_len_b=4)
    engine = model.encoder.forward.method.__self__
    engine.spare.clear()
    before = pages(1)
    for sentences in range(1, 200, 10):
        generator.generate([model], sources(sentences, 60))
    assert pages(1) - before < 3 * engine.held()


def starve(megabytes):
    """Search with so much memory beyond what is there; then with all."""
    torch.set_num_threads(1)
    pair = made("--skip-order 2")
    model = pair[0]
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=5, max_len_b=4)
    engine, sample = model.encoder.forward.method.__self__, sample_of(*[300] * 200)
    generator.generate([model], sample_of(300))
    engine.spare.clear()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages(0) + megabytes * 2**20, before[1]))
    try:
        with pytest.raises(MemoryError):
            generator.generate([model], sample)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert_finds_the_same(pair)


@pytest.mark.parametrize("megabytes", [2, 12, 30])
def test_too_little_memory_is_an_error_and_leaves_nothing(megabytes):
    """Wherever a search of 50 MB runs out of it. In a process of its own: another has memory that it has freed."""
    run("-c", f"from tests.decoding.test_search_memory import starve; starve({megabytes})")
