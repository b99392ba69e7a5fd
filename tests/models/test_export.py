"""``torch.export`` of the encoder and of a decoding step, and TorchScript of a model that is ready to decode."""

import io

import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY, FairseqLanguageModel
from fairseq.models.transformer_align import TransformerAlignModel

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models.export import Encoding, empty_cache, export_encoder, export_step
from skipln_fairseq.models.inference import InferenceModel
from tests.decoding.test_generator import sharpened
from tests.models.test_language_model import build as build_language_model
from tests.support.build import ADAPTIVE_LOSS, CONNECTIONS, batch, build, build_connection_model

STACKS = (
    "--layernorm-embedding",
    "--encoder-learned-pos --decoder-learned-pos",
    "--no-token-positional-embeddings",
    "--share-all-embeddings --no-scale-embedding",
)


def saved_and_loaded(program):
    stored = io.BytesIO()
    torch.export.save(program, stored)
    stored.seek(0)
    return torch.export.load(stored).module()


ARCHITECTURES = sorted(
    name
    for name, kind in ARCH_MODEL_REGISTRY.items()
    if issubclass(kind, InferenceModel)
    # language models take another batch, and fairseq's decoder of alignments takes what TorchScript does not know
    and not issubclass(kind, (FairseqLanguageModel, TransformerAlignModel))
)


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_model_that_is_ready_to_decode_is_scripted(arch):
    """As ``from_pretrained`` leaves it, whose ``need_attn`` is None."""
    model = build(arch, "--encoder-layers", "1", "--decoder-layers", "1")
    expected = model.eval()(*batch())[0]
    model.make_generation_fast_(need_attn=None)
    torch.testing.assert_close(torch.jit.script(model)(*batch())[0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_stock_model_that_is_ready_to_decode_is_scripted():
    model = build("transformer", "--encoder-layers", "1", "--decoder-layers", "1").eval()
    expected = model(*batch())[0]
    model.make_generation_fast_(need_attn=None)
    torch.testing.assert_close(torch.jit.script(model)(*batch())[0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("arch", ["transformer_lm_gpt", "transformer_lm_rskip"])
def test_a_language_models_decoder_is_scripted(arch):
    """The model around it takes what TorchScript does not know, and adds nothing."""
    model = build_language_model(arch).eval()
    words = batch()[2]
    expected = model(words)[0]
    model.make_generation_fast_(need_attn=None)
    scripted = torch.jit.script(model.decoder)
    torch.testing.assert_close(scripted(words)[0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_parts_of_a_model_that_is_ready_to_decode_are_scripted():
    model = build("transformer_rskip", "--encoder-layers", "1", "--decoder-layers", "1").eval()
    source, lengths, target = batch()
    expected = model(source, lengths, target)[0]
    model.make_generation_fast_(need_attn=None)
    encoder, decoder = torch.jit.script(model.encoder), torch.jit.script(model.decoder)
    found = decoder(target, encoder_out=encoder(source, lengths))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def assert_exported_is_the_model(model, bound=1e-4):
    model.eval()
    encoder, step = (saved_and_loaded(export(model)) for export in (export_encoder, export_step))
    for sentences, source_length, target_length in ((3, 7, 6), (1, 2, 1), (5, 19, 11), (2, 4, 3)):
        source, lengths, _ = batch(1, max(sentences, 1), max(source_length, 4), target_length)
        target = batch(2, sentences, 4, target_length)[2].clamp(min=4)
        expected = model.encoder(source, lengths)
        out, padding = encoder(source)
        real = ~padding.t()
        torch.testing.assert_close(out[real], expected["encoder_out"][0][real], rtol=bound, atol=bound)
        cache, state = empty_cache(model.decoder, sentences), {}
        for end in range(1, target_length + 1):
            logits, cache = step(target[:, :end], out, padding, cache)
            theirs, _ = model.decoder(target[:, :end], encoder_out=expected, incremental_state=state)
            torch.testing.assert_close(logits, theirs[:, -1], rtol=bound, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONNECTIONS)
def test_exported_programs_take_other_sizes(name):
    assert_exported_is_the_model(build_connection_model(name), 2e-3 if name == "no-norm" else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("flags", STACKS)
def test_the_stacks_around_the_layers(flags):
    assert_exported_is_the_model(sharpened(build("transformer_rskip", *flags.split())), 1e-3)


@pytest.mark.parametrize("name", ["rskip-2", "pre"])
def test_a_model_that_is_ready_to_decode_is_exported_and_stays_ready(name):
    model = build_connection_model(name)
    model.make_generation_fast_(need_attn=None)
    before = model._preparation
    assert_exported_is_the_model(model, 1e-3)
    assert model._preparation is before


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--attention-type favor", "softmax attention"),
        ("--cross-attention-type favor", "softmax attention"),
        ("--cross-self-attention --no-cross-attention", "softmax attention"),
        (" ".join(("--adaptive-softmax-cutoff 10,20", *ADAPTIVE_LOSS)), "adaptive softmax"),
    ],
)
def test_what_has_no_exported_step_is_refused(flags, why):
    with pytest.raises(UserError, match=why):
        export_step(build("transformer_rskip", *flags.split()))


def test_padding_never_leaks_in_the_exported_encoder():
    encoding = Encoding(build("transformer_rskip").encoder)
    source, _, _ = batch()
    together, padding = encoding(source)
    alone, _ = encoding(source[:1, padding[0].sum() :])
    torch.testing.assert_close(together[padding[0].sum() :, :1], alone, rtol=0, atol=1e-5)
