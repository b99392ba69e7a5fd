"""Models that are prepared for inference: quicker, and the same."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.decoding.generator import QuickGenerator
from skipln_fairseq.models.engine import Engine
from skipln_fairseq.nn.kernels import decode
from skipln_fairseq.nn.kernels.decode import library
from skipln_fairseq.nn.linear import Int8Forward, ProductForward
from tests.decoding.test_generator import (
    assert_finds_the_same,
    pair,
    sharpened,
    sources,
)
from tests.support.build import ADAPTIVE_LOSS, CONNECTIONS, SMALL, batch, build, build_connection_model

# Two parts are 16 bits of the 24: 2⁻¹⁶ of logits of order 40, which are sums of larger ones.
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
compiles = pytest.mark.skipif(decode.kind() is None, reason="no C compiler")

# In one call is what is a chain from F(x) to the sub-layer's output.
IN_ONE_CALL = (
    *("plain", "pre", "no-norm", "xskip", "xskip-ln", "rskip-1", "rskip-2", "rskip-3-shared"),
    *("learned", "admin", "layerscale", "sub-ada", "sandwich-rms"),
)


def in_one_call(model):
    return isinstance(getattr(getattr(model.decoder.forward, "method", None), "__self__", None), Engine)


@compiles
@pytest.mark.parametrize("name", CONNECTIONS)
def test_prepared_decodes_the_same(name, caplog):
    model = sharpened(build_connection_model(name), by=3)
    reference = sharpened(build_connection_model(name, "--kernels", "reference"), by=3)
    with caplog.at_level("INFO"):
        model.make_generation_fast_()
    assert in_one_call(model) == (name in IN_ONE_CALL or name == "mixed")
    assert in_one_call(model) != ("layer by layer: " in caplog.text)
    assert_finds_the_same(model, reference, {"beam_size": 4}, close=CLOSE)


@compiles
@pytest.mark.parametrize(
    "flags",
    [
        "--layernorm-embedding",
        "--decoder-learned-pos --encoder-learned-pos",
        "--no-token-positional-embeddings",
        "--share-all-embeddings",
        "--no-scale-embedding",
        "--decoder-normalize-before --skip-type plain --no-decoder-final-norm",
        "--skip-type deepnorm",
    ],
)
def test_the_stack_around_the_layers(flags):
    model, reference = pair(*flags.split())
    model.make_generation_fast_()
    assert in_one_call(model)
    assert_finds_the_same(model, reference, {}, close=CLOSE)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--activation-fn linear", "its activation function"),
        ("--attention-type favor", "its attention"),
        ("--cross-attention-type favor", "its attention"),
        ("--cross-self-attention --no-cross-attention", "a decoder without a source"),
        ("--kernels reference", "--kernels reference"),
        ("--decoder-layers 0", "a stack without layers"),
        ("--skip-type b2t", "its skip"),
        ("--skip-type plain --skip-norm batch", "its norm BatchNorm"),
        ("--qk-norm rms", "its"),
        (" ".join(("--adaptive-softmax-cutoff 10,20", *ADAPTIVE_LOSS)), "its embedding or output layer"),
    ],
)
def test_what_is_decoded_layer_by_layer(flags, why, caplog):
    model = sharpened(build("transformer_rskip", *flags.split()))
    reference = copy.deepcopy(model)
    with caplog.at_level("INFO"):
        model.make_generation_fast_()
    assert not in_one_call(model)
    (line,) = (one for one in caplog.messages if one.startswith("decoding layer by layer"))
    assert why in line
    assert_finds_the_same(model, reference, {}, close=CLOSE)


def test_nothing_of_it_is_in_a_state_dict():
    model = build("transformer_rskip")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.make_generation_fast_()
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    fresh = build("transformer_rskip", seed=2)
    fresh.load_state_dict(after)
    assert torch.equal(fresh.eval()(*batch())[0], build("transformer_rskip").eval()(*batch())[0])


@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_a_prepared_model_is_not_trained(kind):
    model = build("transformer_rskip", "--skip-order", "2")
    model.inference_type = kind
    model.make_generation_fast_()
    model.make_generation_fast_()  # as fairseq does it once
    assert model.eval() is model
    with pytest.raises(UserError, match="prepared for inference and cannot be trained any more"):
        model.train()


@torch.no_grad()
@pytest.mark.parametrize(("kind", "bound"), [("bf16", 2e-2), ("int8", 6e-2)])
@pytest.mark.parametrize("name", CONNECTIONS)
def test_lower_precision_is_near(name, kind, bound):
    """Of the logits' spread: 2⁻⁸ a product, and 2⁻⁷ of the largest number for 8 bits, through 4 layers."""
    model = build_connection_model(name).eval()
    expected = model(*batch())[0]
    model.inference_type = kind
    model.make_generation_fast_()
    found = model(*batch())[0].float()
    assert (found - expected).abs().max() > 0
    assert (found - expected).square().mean().sqrt() <= bound * expected.std()


def test_an_unknown_type_is_refused():
    from skipln_fairseq.models.inference import with_inference_type

    args = type("Args", (), {"inference_type": "int4"})
    with pytest.raises(UserError, match="inference_type int4: valid are fp32, bf16, int8"):
        with_inference_type(build("transformer_rskip", *SMALL), args)


def translations(model, stock=False, seed=7, **options):
    """Hypotheses with their scores; ``stock``: by fairseq's generator."""
    generator = (SequenceGenerator if stock else QuickGenerator)(
        [model], model.decoder.dictionary, beam_size=3, max_len_b=12, **options
    )
    torch.manual_seed(seed)
    found = generator.generate([model], sources(4))
    return [[(round(one["score"].item(), 3), *one["tokens"].tolist()) for one in each] for each in found]


@compiles
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float32])
def test_a_model_that_is_cast_after_it_was_prepared_is_prepared_anew(kind):
    """As ``from_pretrained(…).half()`` does, which prepares when it loads."""
    model, reference = pair("--skip-order", "2")
    model.make_generation_fast_()
    assert in_one_call(model)
    model.to(kind)
    assert in_one_call(model) is (kind == torch.float32)
    model.to(kind), reference.to(kind)
    if kind != torch.bfloat16:  # whose roundings are others
        assert translations(model) == translations(reference, stock=True)
    translations(model)


def test_a_model_elsewhere_than_on_a_cpu_stays_fairseqs():
    """A device that is not the CPU's, in the place of a GPU."""
    model = build("transformer_rskip").to("meta")
    model.make_generation_fast_()
    assert not in_one_call(model)
    assert not any(isinstance(module.forward, ProductForward) for module in model.modules())


def test_what_is_loaded_into_a_prepared_model_is_used():
    model, _ = pair()
    other = sharpened(build("transformer_rskip", *SMALL, seed=5))
    model.make_generation_fast_()
    before = translations(model)
    model.load_state_dict(other.state_dict())
    other.eval()
    assert translations(model) == translations(other, stock=True) != before


@compiles
def test_a_copy_of_a_prepared_model_is_one():
    model, _ = pair()
    model.make_generation_fast_()
    expected = translations(model)
    copied = copy.deepcopy(model)
    assert in_one_call(copied)
    assert in_one_call(model)
    del model
    assert translations(copied) == expected
    with pytest.raises(UserError, match="cannot be trained"):
        copied.train()


def test_a_prepared_model_can_be_scripted():
    model = build("transformer_rskip", "--kernels", "reference")
    model.make_generation_fast_()
    torch.jit.script(model)
    model = build("transformer_rskip")
    model.make_generation_fast_()
    torch.jit.script(model)


def test_threads_may_share_a_model():
    model, _ = pair("--skip-order", "2")
    model.make_generation_fast_()
    samples = [sources(8, seed=seed) for seed in range(2)]

    def search(sample):
        generator = QuickGenerator([model], model.decoder.dictionary, beam_size=5, max_len_b=20)
        return [one[0]["tokens"].tolist() for one in generator.generate([model], sample)]

    expected = [search(sample) for sample in samples]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(search, samples * 15))
    assert found == expected * 15


def test_the_reference_stays_the_reference_to_the_bit():
    model, prepared = (build("transformer_rskip", "--kernels", "reference").eval() for _ in range(2))
    prepared.make_generation_fast_()
    with torch.no_grad():
        assert torch.equal(model(*batch())[0], prepared(*batch())[0])


def test_hooks_are_called():
    model = build("transformer_rskip").eval()
    calls = []
    model.decoder.layers[0].register_forward_hook(lambda *_: calls.append(1))
    model.make_generation_fast_()
    translations(model)
    assert calls


MODULES = [
    None,
    ["TransformerDecoder"],
    ["TransformerDecoderLayerBase"],
    ["MultiheadAttention"],
    ["TransformerEncoder"],
]


@pytest.mark.parametrize("modules", MODULES, ids=lambda names: names[0] if names else "all")
def test_dropout_retained_in_some_modules_draws_what_fairseq_draws(modules):
    found = []
    for kernels in ("fast", "reference"):
        flags = ("--dropout", "0.3", "--attention-dropout", "0.2", "--activation-dropout", "0.1")
        model = sharpened(build("transformer_rskip", *flags, "--kernels", kernels), by=6)
        model.make_generation_fast_(retain_dropout=True, retain_dropout_modules=modules)
        found.append(translations(model, stock=kernels == "reference"))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["bf16", "int8"])
@pytest.mark.parametrize("modules", MODULES[:3], ids=lambda names: names[0] if names else "all")
def test_dropout_is_retained_in_lower_precision(modules, kind):
    flags = ("--dropout", "0.3", "--activation-dropout", "0.3")
    model = sharpened(build("transformer_rskip", *flags), by=6)
    model.inference_type = kind
    model.make_generation_fast_(retain_dropout=True, retain_dropout_modules=modules)
    assert translations(model, seed=7) != translations(model, seed=8)


def test_eight_bits_are_not_summed_in_sixteen(monkeypatch):
    """Where two products of 8 bits would not fit, 7 are multiplied."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    torch.manual_seed(1)
    plain, x = torch.nn.Linear(64, 32), torch.randn(20, 64)
    expected = plain(x)
    assert Int8Forward(plain).reduced
    assert (plain(x) - expected).std() < 0.02 * expected.std()


@torch.no_grad()
def test_eight_bits_do_not_hide_what_is_no_number():
    plain, x = torch.nn.Linear(64, 32), torch.randn(3, 64)
    x[1, 5] = torch.nan
    Int8Forward(plain)
    y = plain(x)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_a_first_word_that_is_none_is_refused():
    model, _ = pair()
    model.make_generation_fast_()
    generator = QuickGenerator([model], model.decoder.dictionary, beam_size=3)
    with pytest.raises(IndexError):
        generator.generate([model], sources(2), bos_token=len(model.decoder.dictionary))


def test_retained_dropout_draws_what_fairseq_draws():
    """The same seed gives what the reference kernels give, with float32's own products, which tiles are 10⁻⁵ off."""
    outputs = []
    for kernels in ("fast", "reference"):
        model = build(
            "transformer_rskip", "--dropout", "0.3", "--attention-dropout", "0.2", "--kernels", kernels
        )
        model.make_generation_fast_(retain_dropout=True, retain_dropout_modules=None)
        assert not any(isinstance(module.forward, ProductForward) for module in model.modules())
        torch.manual_seed(7)
        outputs.append(model(*batch())[0])
    torch.testing.assert_close(*outputs, rtol=0, atol=5e-7)


def test_without_a_compiler(monkeypatch, caplog):
    monkeypatch.setattr(library.compiled, "load", lambda source, *flags: None)
    caches = (decode.kind, library.source)
    for one in caches:
        one.cache_clear()
    model, reference = pair("--skip-order", "2")
    with caplog.at_level("INFO"):
        model.make_generation_fast_()
    assert "does not know a machine without a C compiler" in caplog.text
    assert not in_one_call(model)
    assert_finds_the_same(model, reference, {}, quick=False, monkeypatch=monkeypatch)
    for one in caches:
        one.cache_clear()
