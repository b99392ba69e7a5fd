"""Sources of attention to the encoder against their oracles in whole models; how they decode, script and learn."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skipln_fairseq import to_ctranslate2
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import engine, reading, resume
from skipln_fairseq.models.export import export_encoder, export_step
from skipln_fairseq.models.mixing import MixingDecoder, MixingEncoder
from skipln_fairseq.nn import SOURCES
from tests.models.test_mixing import gradients
from tests.models.test_value import decoded
from tests.support.build import assert_padding_never_leaks, batch, build, parse

DEEP = ("--skip-type", "plain", "--encoder-layers", "3", "--decoder-layers", "4")
OTHERS = [name for name in SOURCES if name != "last"]


def model(name, *flags, seed=1):
    """In evaluation, its weights away from where they start."""
    made = build("transformer_rskip", *DEEP, "--cross-attention-source", name, *flags, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if ".source." in key:
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    return made


def sources_read(made):
    """What the attentions to the encoder are called with, block by block."""
    read = []
    for layer in made.decoder.layers:
        layer.encoder_attn.register_forward_pre_hook(
            lambda module, args, kwargs: read.append(kwargs["key"].detach()), with_kwargs=True
        )
    return read


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("name", SOURCES)
def test_each_block_of_the_decoder_reads_what_the_oracle_says(name, placement, kernels):
    """The encoder keeps its own outputs: those of the same encoder with the same weights and the stock source."""
    flags = ("--norm-placement", placement, "--kernels", kernels)
    made, plain = model(name, *flags), build("transformer_rskip", *DEEP, *flags).eval()
    plain.load_state_dict(made.state_dict(), strict=False)
    source, lengths, target = batch()
    outputs = [one.detach() for one in plain.encoder(source, lengths, True)["encoder_states"]]
    assert len(outputs) == 4

    def end(y):
        return plain.encoder.layer_norm(y) if placement == "pre" else y

    numbers = {}
    if name != "last":
        numbers = {key: p.detach().numpy() for key, p in made.encoder.source.named_parameters()}
    expected = import_module(f"tests.oracles.source.{name}").sources(outputs, end, numbers)
    read = sources_read(made)
    made(source, lengths, target)
    assert len(read) == 4
    for found, z in zip(read, expected if len(expected) == 4 else expected * 4, strict=True):
        np.testing.assert_allclose(found.numpy(), z.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert name == "last" or not torch.allclose(read[0], read[1])


def test_transparent_attention_reads_the_mean_at_first_and_has_no_norm_at_the_end():
    made = build(
        "transformer_rskip", *DEEP, "--norm-placement=pre", "--cross-attention-source=transparent"
    ).eval()
    assert (type(made.encoder), type(made.decoder)) == (MixingEncoder, MixingDecoder)
    assert made.encoder.source.weight.shape == (3 + 1, 4)
    assert not [key for key in made.state_dict() if key.startswith("encoder.layer_norm.")]
    source, lengths, _ = batch()
    found = made.encoder(source, lengths, True)
    assert len(found["encoder_out"]) == 4
    for one in found["encoder_out"]:
        torch.testing.assert_close(one, torch.stack(found["encoder_states"]).mean(0))
    assert made.encoder(source, lengths)["encoder_states"] == []


def test_its_dropout_is_of_the_weights_before_softmax_and_in_training_alone():
    outputs = [torch.randn(2, 3, 5) for _ in range(4)]
    one = SOURCES["transparent"].build(3, 2)
    assert one.dropout == 0.1
    one = SOURCES["transparent"].build(3, 2, dropout=0.5).train()
    torch.nn.init.normal_(one.weight)
    torch.manual_seed(5)
    found = one(outputs[-1], outputs)
    torch.manual_seed(5)
    shares = F.dropout(one.weight + 0.25, 0.5).softmax(0)
    for j in range(2):
        torch.testing.assert_close(found[j], sum(shares[i, j] * outputs[i] for i in range(4)))
    still = one.eval()(outputs[-1], outputs)
    assert not torch.allclose(found[0], still[0])
    assert torch.equal(still[0], one(outputs[-1], outputs)[0])
    args = ("--cross-attention-source=transparent", "--transparent-dropout=0.3")
    assert build("transformer_rskip", *DEEP, *args).encoder.source.dropout == 0.3


@pytest.mark.parametrize("name", OTHERS)
def test_its_gradient_is_the_derivative(name):
    one = SOURCES[name].build(2, 3).double().eval()
    names, parameters = zip(*one.named_parameters(), strict=True)
    outputs = [torch.randn(2, 4, dtype=torch.float64) for _ in range(3)]

    def call(*tensors):
        values, numbers = list(tensors[:3]), dict(zip(names, tensors[3:], strict=True))
        return tuple(torch.func.functional_call(one, numbers, (values[-1], values)))

    assert torch.autograd.gradcheck(call, tuple(each.requires_grad_() for each in (*outputs, *parameters)))


@pytest.mark.parametrize("name", OTHERS)
def test_softmax_is_in_single_precision(name):
    made = model(name)
    expected = made(*batch())[0]
    torch.testing.assert_close(made.bfloat16()(*batch())[0].float(), expected, rtol=0.1, atol=0.1)
    one = SOURCES[name].build(3, 1).half().eval()
    with torch.no_grad():
        one.weight.copy_(torch.tensor([[1000.0], [1000.5], [1000.0], [1000.5]]))  # ¼ more is no half's number
    outputs = [torch.eye(4)[i][None].half() for i in range(4)]
    exact = (one.weight.double() + 0.25).softmax(0)[:, 0].half()
    assert torch.equal(one(outputs[-1], outputs)[0][0], exact)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_it_decodes_step_by_step_and_its_sources_change_places_with_the_beams(name, kernels):
    source, lengths, target = batch()
    made = model(name, "--kernels", kernels)
    full, real = made(source, lengths, target)[0], target.ne(1)
    steps, _ = decoded(made, source, lengths, target)
    torch.testing.assert_close(steps[real], full[real], rtol=1e-4, atol=1e-5)

    order = torch.tensor([2, 0, 0, 1])
    moved = made.encoder.reorder_encoder_out(made.encoder(source, lengths, True), order)
    alone = made.encoder(source[order], lengths[order], True)
    assert moved.keys() == alone.keys()
    for key, found in moved.items():
        assert len(found) == len(alone[key])
        for one, other in zip(found, alone[key], strict=True):
            torch.testing.assert_close(one, other, msg=key)
    found = made.decoder(target[order], encoder_out=moved)[0]
    torch.testing.assert_close(found[real[order]], full[order][real[order]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flags", [(), ("--cross-attention-type", "favor"), ("--encoder-solver", "rk2")])
@pytest.mark.parametrize("name", OTHERS)
def test_it_scripts_and_padding_never_leaks(name, flags):
    made = model(name, "--norm-placement", "pre", "--export", *flags)
    scripted = torch.jit.script(made)
    torch.testing.assert_close(scripted(*batch())[0], made(*batch())[0], rtol=1e-4, atol=1e-5)
    source, lengths, _ = batch()
    order = torch.tensor([1, 2, 0])
    moved = scripted.encoder.reorder_encoder_out(scripted.encoder(source, lengths), order)["encoder_out"]
    assert len(moved) == 4
    assert all(
        map(torch.equal, moved, [one[:, order] for one in scripted.encoder(source, lengths)["encoder_out"]])
    )
    assert_padding_never_leaks(made, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("name", OTHERS)
def test_checkpointed_activations_give_the_same_gradients_and_all_learn(name, placement):
    flags = ("--norm-placement", placement, "--dropout", "0.3")
    plain = model(name, *flags).train()
    again = model(name, *flags, "--checkpoint-activations").train()
    again.load_state_dict(plain.state_dict())
    torch.manual_seed(3)
    expected = gradients(plain)
    torch.manual_seed(3)
    for key, value in gradients(again).items():
        torch.testing.assert_close(value, expected[key], msg=key)
        assert value.abs().max() > 0 or "k_proj.bias" in key


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--cross-attention-source all", "--cross-attention-source all: valid are last, transparent"),
        (
            "--cross-attention-source transparent --no-cross-attention",
            "has no meaning with --no-cross-attention",
        ),
        ("--cross-attention-source transparent --encoder-depth-mixing dlcl", "valid there are last"),
        (
            "--cross-attention-source transparent --encoder-skip-type dual",
            "does not go with --skip-type dual",
        ),
        (
            "--cross-attention-source transparent --encoder-layerdrop 0.1",
            "--encoder-layerdrop does not go with",
        ),
        (
            "--cross-attention-source transparent --decoder-layerdrop 0.1",
            "--decoder-layerdrop does not go with",
        ),
        (
            "--cross-attention-source transparent --decoder-layers-to-keep 0,1",
            "--decoder-layers-to-keep does",
        ),
        ("--transparent-dropout 0.1", "it belongs to --cross-attention-source transparent"),
        (
            "--cross-attention-source transparent --transparent-dropout 1",
            "--transparent-dropout 1: valid is a finite number of at least 0 and below 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *DEEP, *flags.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_who_does_not_know_it_says_so(monkeypatch):
    made = model("transparent")
    for export in (export_encoder, export_step):
        with pytest.raises(UserError, match="no --cross-attention-source transparent"):
            export(made)
    with pytest.raises(
        UserError, match="CTranslate2 has no transparent source of the attention to the encoder"
    ):
        to_ctranslate2.check(made, made.args)
    monkeypatch.setattr(reading, "kind", lambda: "portable")
    with pytest.raises(reading.Unknown, match="--cross-attention-source transparent"):
        engine.Engine(made.decoder, "fp32")
    made.make_generation_fast_()
    assert "advance" not in vars(made.decoder)


def test_a_resumed_run_is_told():
    chosen = "--cross-attention-source=transparent"
    found = resume._changes(parse("transformer_rskip"), parse("transformer_rskip", chosen))
    assert found.connections == ["encoder source last → transparent dropout 0.1"]
    other = parse("transformer_rskip", chosen, "--transparent-dropout=0.2")
    found = resume._changes(parse("transformer_rskip", chosen), other)
    assert found.connections == ["encoder source transparent dropout 0.1 → transparent dropout 0.2"]
