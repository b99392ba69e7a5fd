"""A whole search in one call finds what fairseq's generator finds with the reference kernels."""

import importlib
import itertools
import math

import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.sequence_generator import SequenceGenerator

from skipln_fairseq.decoding.generator import QuickGenerator
from skipln_fairseq.nn.kernels.decode import kind
from skipln_fairseq.nn.skip.scheduled import ScheduledBranch
from tests.decoding.test_generator import assert_same, sharpened, sources
from tests.support.build import Task, batch, parse

kernel = importlib.import_module("skipln_fairseq.nn.kernels.decode.search")  # not its function

pytestmark = pytest.mark.skipif(kind() is None, reason="no C compiler")

# Scores of up to 13 words of about −3; AMX multiplies two bfloat16 parts of each number.
CLOSE = {"rtol": 1e-3, "atol": 1e-3} if kind() == "amx" else {"rtol": 1e-5, "atol": 1e-5}

# For streams that no norm bounds; AMX's products are no better there than elsewhere.
LOOSE = CLOSE if kind() == "amx" else {"rtol": 1e-4, "atol": 1e-4}

MODELS = {
    "post": "--skip-order 1",
    "order 2": "--skip-order 2",
    "order 3": "--skip-order 3 --share-all-embeddings",
    "pre": "--skip-type plain --encoder-normalize-before --decoder-normalize-before",
    "narrow heads": "--encoder-embed-dim 24 --encoder-attention-heads 4 --decoder-attention-heads 3",
    "three layers": "--skip-order 2 --encoder-layers 3 --decoder-layers 1 --layernorm-embedding",
    "other widths": "--encoder-embed-dim 24 --decoder-embed-dim 16 --decoder-ffn-embed-dim 24",
    "learned positions": "--encoder-learned-pos --decoder-learned-pos",
    "no positions": "--no-token-positional-embeddings",
}

FAMILY = {
    **{
        f"{norm} {placement}": f"--skip-type plain --skip-norm {norm} --norm-placement {placement}"
        for norm, placement in (
            *(("layer", one) for one in ("res-post", "sandwich", "sub", "lns", "mix")),
            *(("layer-simple", "post"), ("detach", "pre"), ("detach-mean", "res-post"), ("ada", "post")),
            *(
                ("detach-deviation", "sandwich"),
                ("ada", "pre"),
                ("rms", "post"),
                ("rms", "lns"),
                ("rms", "sub"),
            ),
            *(("rms-zero", "pre"), ("scale", "post"), ("scale", "pre"), ("dyt", "pre"), ("derf", "sandwich")),
            *(("seed", "post"), ("seed", "lns"), ("seed", "sub"), ("bhyt", "pre"), ("bhyt", "lns")),
        )
    },
    **{
        f"{skip} {norm}": f"--skip-type {skip} --skip-norm {norm}"
        for skip, norm in (
            *(
                ("learned --skip-scale-vector", "rms"),
                ("learned", "scale"),
                ("admin", "ada"),
                ("rezero", "none"),
            ),
            *(("layerscale --layerscale-init 0.5", "layer"), ("recursive --skip-order 3", "rms")),
            *(
                ("recursive --skip-order 2", "detach"),
                ("expanded --skip-scale 2", "dyt"),
                ("deepnorm", "layer"),
                ("branchnorm --branchnorm-updates 5", "rms"),
                ("prores --prores-updates 2", "layer"),
            ),
        )
    },
    **{one: f"--activation-fn {one}" for one in ("gelu", "gelu_accurate", "tanh")},
    "sub of all": "--skip-type plain --norm-placement sub --skip-norm rms --connection-form first",
    "keel": "--skip-type expanded --skip-scale 3 --norm-placement keel",
    "norms by sub-layer": "--skip-norm layer --encoder-ffn-skip-norm rms --decoder-ffn-skip-norm dyt",
}

ENDS = (9, 35)  # words of which the models are fond

SETTINGS = {
    **{f"beam {beam}": {"beam_size": beam} for beam in (1, 3, 5, 12)},
    "length penalty": {"len_penalty": 0.3},
    "favours length": {"len_penalty": 1.7},
    "no normalisation": {"normalize_scores": False},
    "least length": {"min_len": 6},
    "longer": {"max_len_a": 2, "max_len_b": 30},
    "by source": {"max_len_a": 0.5, "max_len_b": 2},
    "a word at most": {"max_len_b": 1},
    "nothing but the end": {"max_len_b": 0, "min_len": 0},
    "unknown words": {"unk_penalty": 3.0},
    "unknown words wanted": {"unk_penalty": -9.0},
    "temperature": {"temperature": 0.6},
    "forbidden words": {"tokens_to_suppress": ("w3", "w7", "w11")},
    "other end": {"eos": 9},
}


def made(flags, words=40, seed=1, moved=False):
    """The model that is searched with in one call, and the reference, whose norms and skips are ``moved``."""
    models = []
    for form in ("fast", "reference"):
        args = parse("transformer_rskip", *flags.split(), "--kernels", form)
        torch.manual_seed(seed)
        model = sharpened(ARCH_MODEL_REGISTRY[args.arch].build_model(args, Task(words)), by=4)
        for name, parameter in model.named_parameters() if moved else ():
            if "layer_norm" in name:
                parameter.data += 0.3 * torch.randn(parameter.shape)
        for one in model.modules():
            if isinstance(one, ScheduledBranch):
                one.set_num_updates(3)
        models.append(model)
    models[0].make_generation_fast_()
    return models


@pytest.fixture(scope="module")
def pair():
    return made("--skip-order 2")


@pytest.fixture
def in_one_call(monkeypatch):
    """Fail where a search goes step by step."""
    monkeypatch.delattr(QuickGenerator, "search_by_steps")


def assert_finds_the_same(pair, sample=None, close=CLOSE, **settings):
    settings = {"beam_size": 4, "max_len_b": 12} | settings
    found = []
    for model, generator in zip(pair, (QuickGenerator, SequenceGenerator), strict=True):
        found.append(
            generator([model], model.decoder.dictionary, **settings).generate([model], sample or sources())
        )
    assert_same(*found, close)
    return found[0]


def sample_of(*lengths, columns=None, seed=5):
    """Sentences of so many words, their ends counted, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), columns or max(lengths)), 1)
    for row, length in enumerate(lengths):
        tokens[row, tokens.size(1) - length :] = torch.randint(4, 44, (length,), generator=generator)
        tokens[row, -1] = 2
    return {"net_input": {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting(name, pair, in_one_call):
    assert_finds_the_same(pair, **SETTINGS[name])


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name, in_one_call):
    pair = made(MODELS[name])
    for settings in ({}, {"beam_size": 1}, {"beam_size": 5, "len_penalty": 0.6, "min_len": 3}):
        assert_finds_the_same(pair, **settings)


@pytest.mark.parametrize("name", FAMILY)
def test_the_family(name, in_one_call):
    pair = made(FAMILY[name], moved=True)
    assert_finds_the_same(pair, close=LOOSE, beam_size=3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "lengths",
    [(1,), (7,), (1, 1), (9, 1, 4), (1, 30, 2, 17, 5), (40,) * 9, tuple(range(1, 34)), (300, 2)],
    ids=len,
)
def test_every_batch(lengths, threads, pair, in_one_call, torch_threads):
    torch_threads(threads)
    for end in (2, *ENDS):
        assert_finds_the_same(pair, sample_of(*lengths), eos=end)


def test_sentences_end_one_after_another(pair):
    """What the other tests rely on."""
    for end in ENDS:
        found = assert_finds_the_same(pair, sample_of(1, 30, 2, 17, 5, 9, 9, 4), eos=end)
        assert len({max(len(one["tokens"]) for one in each) for each in found}) > 3


def test_sources_with_more_padding_than_they_need(pair, in_one_call):
    assert_finds_the_same(pair, sample_of(3, 5, columns=11))


def test_sources_that_are_padded_on_the_right_and_within(pair, in_one_call):
    sample = sample_of(6, 6, 6)
    sample["net_input"]["src_tokens"][0, 4:] = 1
    sample["net_input"]["src_tokens"][1, 2:4] = 1
    assert_finds_the_same(pair, sample)


@pytest.mark.parametrize("words", [0, 1, 2])
@pytest.mark.parametrize("beam", [1, 4, 9])
def test_few_words(words, beam, in_one_call):
    sample = sample_of(3, 1)
    tokens = sample["net_input"]["src_tokens"]
    tokens[tokens > 3] = 3 + min(words, 1)
    assert_finds_the_same(made("--skip-order 1", words), sample, beam_size=beam, max_len_b=5)


def test_another_first_word(pair, in_one_call):
    found = [
        generator([one], one.decoder.dictionary, beam_size=3, max_len_b=8).generate(
            [one], sources(), bos_token=5
        )
        for one, generator in zip(pair, (QuickGenerator, SequenceGenerator), strict=True)
    ]
    assert_same(*found, CLOSE)


def test_a_first_word_that_is_padding_is_not_attended_to(pair):
    """As step by step; fairseq's softmax finds no number there."""
    model, given = pair[0], sources()
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=3, max_len_b=8)
    found = generator.generate([model], given, bos_token=1)
    assert_same(found, generator.search_by_steps(given["net_input"], first=1), CLOSE)


def test_a_call_that_returns_before_the_end_goes_on(pair, in_one_call, monkeypatch):
    """As long searches do, so that Python can be interrupted."""
    expected = assert_finds_the_same(pair)
    monkeypatch.setattr(kernel, "SECONDS", 0.0)
    assert_same(assert_finds_the_same(pair), expected, {"rtol": 0, "atol": 0})


@pytest.mark.parametrize("calls", [1, 3, None], ids=["at its start", "within", "at its end"])
def test_an_interrupted_search_ends_and_leaves_nothing(calls, pair, in_one_call, monkeypatch):
    """Python sees an interruption when a call has returned."""
    expected = assert_finds_the_same(pair)
    model, made = pair[0], itertools.count(1)

    def interrupted(*_):
        raise KeyboardInterrupt

    def check(found):
        return interrupted() if next(made) == calls else found

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "SECONDS", 0.0)
        patch.setattr(kernel.Space, "check", staticmethod(check))
        if calls is None:
            patch.setattr(kernel, "_read", interrupted)
        generator = QuickGenerator([model], model.decoder.dictionary, beam_size=7, min_len=9)
        with pytest.raises(KeyboardInterrupt):
            generator.generate([model], sources(9))
    assert_same(assert_finds_the_same(pair), expected, {"rtol": 0, "atol": 0})


@pytest.mark.parametrize("steps", ["one call", "step by step"])
@pytest.mark.parametrize("where", ["decoder.output_projection", "encoder.layers.0.fc1"])
def test_what_is_no_number_ends_no_hypothesis(where, steps):
    model, _ = made("--skip-order 1")
    with torch.no_grad():
        model.get_submodule(where).weight[:] = math.nan
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=3, max_len_b=6)
    if steps == "step by step":
        generator.read = None
        model.decoder.search = lambda *_: None
    with pytest.raises(AssertionError):
        generator.generate([model], sources())


def test_an_end_that_is_forbidden_ends_no_hypothesis(pair, in_one_call):
    for model, generator in zip(pair, (QuickGenerator, SequenceGenerator), strict=True):
        forbidden = {"eos": 7, "tokens_to_suppress": ("w3",), "max_len_b": 4}
        with pytest.raises(AssertionError):
            generator([model], model.decoder.dictionary, **forbidden).generate([model], sources())


@pytest.mark.parametrize("word", [-1, 44, 10**9])
def test_a_source_with_a_number_that_is_no_word_is_refused(word, pair):
    sample = sources()
    sample["net_input"]["src_tokens"][2, 5] = word
    model = pair[0]
    with pytest.raises(IndexError):
        QuickGenerator([model], model.decoder.dictionary).generate([model], sample)


@pytest.mark.parametrize("word", [-1, 44])
def test_an_end_that_is_no_word_is_refused(word, pair):
    model = pair[0]
    with pytest.raises(IndexError, match="none of 44 words"):
        QuickGenerator([model], model.decoder.dictionary, eos=word).generate([model], sources(), bos_token=5)


def test_sources_of_nothing_but_padding(pair):
    """fairseq's softmax finds no number there; here nothing is attended to, and the other sentences are as before."""
    sample = sample_of(3, 7, 5)
    expected = assert_finds_the_same(pair, sample)
    sample["net_input"]["src_tokens"][1] = 1
    generator = QuickGenerator([pair[0]], pair[0].decoder.dictionary, beam_size=4, max_len_b=12)
    found = generator.generate([pair[0]], sample)
    assert_same(found[::2], expected[::2], CLOSE)
    assert found[1][0]["attention"].eq(0).all()
    assert_same(found, generator.search_by_steps(sample["net_input"], first=2), CLOSE)
    sample["net_input"]["src_tokens"][:] = 1
    assert len(generator.generate([pair[0]], sample)) == 3


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_encoded_alone(name):
    """What other searches and teacher forcing read, at real positions; padding is zero."""
    model, reference = made(MODELS[name])
    for lengths in ((7, 3, 1), (1,), (33, 17), (9,) * 40):
        given = sample_of(*lengths)["net_input"]
        ours, theirs = model.encoder(**given), reference.encoder(**given)
        assert ours.keys() == theirs.keys()
        real = given["src_tokens"].t().ne(1)
        torch.testing.assert_close(ours["encoder_out"][0][real], theirs["encoder_out"][0][real], **CLOSE)
        assert ours["encoder_out"][0][~real].eq(0).all()
        for key in ("encoder_padding_mask", "encoder_embedding", "src_lengths"):
            assert torch.equal(ours[key][0], theirs[key][0])
            assert ours[key][0].dtype == theirs[key][0].dtype


@torch.no_grad()
def test_an_encoder_that_is_asked_for_more_is_the_reference(pair):
    model, _ = pair
    given = batch()
    states = model.encoder(given[0], given[1], return_all_hiddens=True)["encoder_states"]
    assert len(states) == 1 + len(model.encoder.layers)
