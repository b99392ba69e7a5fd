"""Stacks with ``--depth-mixing``: their loops, what they are at first, what is stored, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skipln_fairseq import to_ctranslate2
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import engine, reading
from skipln_fairseq.models.export import export_encoder, export_step
from skipln_fairseq.models.flags import connections
from skipln_fairseq.models.mixing import MixingDecoder, MixingEncoder
from skipln_fairseq.models.stacks import SkipDecoder, SkipEncoder
from skipln_fairseq.nn import MIXINGS
from tests.models import test_language_model as language_model
from tests.models.test_inference import in_one_call
from tests.oracles.mixing import attention
from tests.support.build import assert_padding_never_leaks, batch, build, parse

PRE = ("--skip-type", "plain", "--norm-placement", "pre", "--encoder-layers", "3", "--decoder-layers", "3")
MIXED = [name for name in MIXINGS if name != "none"]


def model(*flags, arch="transformer_rskip", seed=1):
    """In evaluation, its mixings away from where they start."""
    made = build(arch, *PRE, *flags, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "mixing" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def gradients(made):
    source, lengths, target = batch()
    loss = F.cross_entropy(made(source, lengths, target)[0].flatten(0, 1), target.flatten(), ignore_index=1)
    made.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in made.named_parameters()}


def test_without_mixing_the_stacks_are_the_ones_that_there_were():
    plain, named = build("transformer_rskip"), build("transformer_rskip", "--depth-mixing", "none")
    for made in (plain, named):
        assert (type(made.encoder), type(made.decoder)) == (SkipEncoder, SkipDecoder)
    assert plain.state_dict().keys() == named.state_dict().keys()
    assert not [name for name in plain.state_dict() if "mixing" in name]


@pytest.mark.parametrize("flags", [(), ("--denseformer-dilation", "2"), ("--denseformer-period", "2")])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_denseformer_is_the_model_without_at_first_bit_for_bit(flags, placement):
    """This also holds the loops of these stacks against fairseq's."""
    flags = [*flags, "--depth-mixing", "denseformer"]
    place = ("--norm-placement", placement, "--layernorm-embedding", "--kernels", "reference")
    mixed, plain = (build("transformer_rskip", *PRE, *place, *more).eval() for more in (flags, ()))
    assert not mixed.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    source, lengths, target = batch()
    ours, theirs = mixed.encoder(source, lengths, True), plain.encoder(source, lengths, True)
    assert ours.keys() == theirs.keys()
    for key in ours.keys() - {"fc_results"}:
        assert len(ours[key]) == len(theirs[key]), key
        assert all(map(torch.equal, ours[key], theirs[key])), key
    for how in ({}, {"alignment_layer": 1, "alignment_heads": 1}, {"full_context_alignment": True}):
        (x, more), (y, other) = (
            each.decoder(target, encoder_out=out, **how) for each, out in ((mixed, ours), (plain, theirs))
        )
        assert torch.equal(x, y)
        assert torch.equal(more["attn"][0], other["attn"][0])
        assert all(map(torch.equal, more["inner_states"], other["inner_states"]))
    found, expected = gradients(mixed), gradients(plain)
    for name, value in expected.items():  # sums of the same terms and zeros, in another order
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_attention_residuals_of_a_whole_model_equal_the_oracle(side, size):
    """The real sub-layers, in the order in which the stacks' loops have them."""
    made = model(f"--{side}-depth-mixing=attention", f"--{side}-attention-residual-size={size}").double()
    source, lengths, target = batch()
    out = made.encoder(source, lengths)
    stack = getattr(made, side)
    mask = (source if side == "encoder" else target).eq(1)

    def branch(layer, slot):
        def in_numpy(x):
            x = torch.from_numpy(x)
            if side == "encoder":
                how = {
                    "self_attn": (layer.attend_to_itself, (mask, None)),
                    "ffn": (layer.feed_forward, (mask,)),
                }
            else:
                future = stack.buffered_future_mask(x)
                memory = out["encoder_out"][0], out["encoder_padding_mask"][0]
                how = {
                    "self_attn": (layer.attend_to_itself, (*memory, None, future, mask)),
                    "cross_attn": (layer.attend_to_source, (*memory, None, mask, False, False)),
                    "ffn": (layer.feed_forward, (mask,)),
                }
            function, arguments = how[slot]
            y = function(x, *arguments)
            return (y[0] if isinstance(y, tuple) else y).detach().numpy()

        return in_numpy

    def place(mixing):
        return SimpleNamespace(numbers={name: p.detach().numpy() for name, p in mixing.named_parameters()})

    slots = ("self_attn", "ffn") if side == "encoder" else ("self_attn", "cross_attn", "ffn")
    blocks = [SimpleNamespace(branches=[branch(layer, slot) for slot in slots]) for layer in stack.layers]
    places = [[place(getattr(layer, f"{slot}_mixing")) for slot in slots] for layer in stack.layers]

    def end(x):
        return stack.layer_norm(torch.from_numpy(x)).detach().numpy()

    if side == "encoder":
        x, _ = stack.forward_embedding(source)
        x = x.masked_fill(mask[:, :, None], 0).transpose(0, 1)
        found = out["encoder_out"][0]
    else:
        x = stack.embed(target)
        found = stack.extract_features(target, out)[0].transpose(0, 1)
    expected = attention.stack(
        x.detach().numpy(), blocks, [*places, [place(stack.end_mixing)]], end, False, size
    )
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mixing", MIXED)
def test_padding_never_leaks(mixing):
    assert_padding_never_leaks(model("--depth-mixing", mixing), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixing", MIXED)
def test_checkpointed_activations_give_the_same_gradients(mixing):
    plain = model("--depth-mixing", mixing, "--dropout", "0.3").train()
    again = model("--depth-mixing", mixing, "--dropout", "0.3", "--checkpoint-activations").train()
    again.load_state_dict(plain.state_dict())
    calls = []
    again.encoder.layers[1].fc1.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(3)
    expected = gradients(plain)
    torch.manual_seed(3)
    found = gradients(again)
    assert len(calls) == 2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
        assert value.abs().max() > 0 or "k_proj.bias" in name


@pytest.mark.parametrize("mixing", MIXED)
def test_half_precision_is_near(mixing):
    """Logits and softmax over depth stay in single precision: large values do not overflow."""
    made = model("--depth-mixing", mixing)
    inputs = batch()
    expected = made(*inputs)[0]
    torch.testing.assert_close(made.bfloat16()(*inputs)[0].float(), expected, rtol=0.1, atol=0.1)
    if mixing == "attention":
        place = made.encoder.end_mixing
        assert place.logits(torch.full((1, 16), 300.0, dtype=torch.float16)).dtype == torch.float32
        assert place.half().logits(torch.full((1, 16), 300.0, dtype=torch.float16)).isfinite().all()


@pytest.mark.parametrize(("mixing", "placement"), [("attention", "pre"), ("dlcl", "pre"), ("dlcl", "post")])
def test_some_start_as_the_mean_of_the_outputs(mixing, placement):
    flags = ("--depth-mixing", mixing, "--norm-placement", placement)
    place = build("transformer_rskip", *PRE, *flags).encoder.layers[2].self_attn_mixing
    values, last = [torch.randn(2, 3, 16) for _ in range(2)], torch.randn(2, 3, 16)
    means = {
        ("attention", "pre"): lambda: torch.stack([*values, last]).mean(0),
        ("dlcl", "pre"): lambda: torch.stack([*values, place.norm(last)]).mean(0),
        ("dlcl", "post"): lambda: place.norm(torch.stack([*values, last]).mean(0)),
    }
    torch.testing.assert_close(place(last, list(values)), means[mixing, placement]())


@pytest.mark.parametrize("mixing", MIXED)
def test_its_gradient_is_the_derivative(mixing):
    place = model("--depth-mixing", mixing).encoder.end_mixing.double()
    names, parameters = zip(*place.named_parameters(), strict=True)
    generator = torch.Generator().manual_seed(2)
    memory = [torch.randn(2, 16, generator=generator, dtype=torch.float64) for _ in range(4)]

    def call(*tensors):
        values, numbers = tensors[:4], dict(zip(names, tensors[4:], strict=True))
        return torch.func.functional_call(place, numbers, (values[-1], list(values[:-1])))

    assert torch.autograd.gradcheck(call, tuple(one.requires_grad_() for one in (*memory, *parameters)))


@pytest.mark.parametrize("mixing", MIXED)
def test_a_language_model_has_it_too(mixing):
    lm = language_model.build("transformer_lm_rskip", f"--skip-type plain --depth-mixing {mixing}").eval()
    assert type(lm.decoder) is MixingDecoder
    target = language_model.batch()
    full, state = lm(target)[0], {}
    for end in range(1, target.size(1) + 1):
        step = lm(target[:, :end], incremental_state=state)[0]
        torch.testing.assert_close(step[0, -1], full[0, end - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixing", MIXED)
def test_a_decoder_without_cross_attention_is_scripted(mixing):
    made = model("--no-cross-attention", "--depth-mixing", mixing, "--export")
    torch.testing.assert_close(torch.jit.script(made)(*batch())[0], made(*batch())[0], rtol=1e-4, atol=1e-5)


def test_a_model_of_alignments_has_it_too():
    made = model(
        "--depth-mixing=dlcl", "--alignment-layer=1", "--alignment-heads=1", arch="transformer_align_rskip"
    )
    assert (type(made.encoder), type(made.decoder)) == (MixingEncoder, MixingDecoder)
    source, lengths, target = batch()
    assert made(source, lengths, target)[1]["attn"][0].shape == (*target.shape, source.size(1))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--depth-mixing dlcl --encoder-layerdrop 0.1",
            "--encoder-layerdrop does not go with --depth-mixing dlcl",
        ),
        ("--depth-mixing dlcl --decoder-layers-to-keep 0,1", "--decoder-layers-to-keep does not go with"),
        ("--decoder-depth-mixing dlcl --base-layers 1", "--base-layers does not go with"),
        (
            "--depth-mixing dlcl --checkpoint-activations --offload-activations",
            "--offload-activations does not",
        ),
        ("--depth-mixing dense", "--depth-mixing dense: valid are none, dlcl"),
        (
            "--depth-mixing attention --norm-placement post",
            "stands in the place of the skip, and does not go with",
        ),
        (
            "--depth-mixing attention --skip-type expanded --skip-scale 2",
            "valid there are none, dlcl, denseformer",
        ),
        (
            "--depth-mixing dlcl --skip-type dual --norm-placement post",
            "dlcl does not go with --skip-type dual",
        ),
        ("--depth-mixing dlcl --attention-residual-size 2", "it belongs to --depth-mixing attention"),
        ("--depth-mixing denseformer --denseformer-dilation 0", "a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *PRE, *flags.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_side_without_mixing_keeps_what_the_other_cannot_have():
    made = build(
        "transformer_rskip",
        *PRE,
        "--encoder-depth-mixing=dlcl",
        "--decoder-layerdrop=0.1",
        "--decoder-layers-to-keep=0,1",
    )
    assert (type(made.encoder), type(made.decoder)) == (MixingEncoder, SkipDecoder)


def test_torch_export_is_refused():
    made = model("--depth-mixing=dlcl")
    for export in (export_encoder, export_step):
        with pytest.raises(UserError, match="no --depth-mixing dlcl"):
            export(made)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_side_without_layers_mixes_its_embedding_alone(side):
    for mixing in MIXED:
        made = build(
            "transformer_rskip", *PRE, f"--{side}-layers=0", f"--{side}-depth-mixing={mixing}"
        ).eval()
        assert made(*batch())[0].isfinite().all()


@pytest.mark.parametrize("mixing", MIXED)
def test_the_engine_of_decoding_steps_steps_aside_and_says_why(mixing, monkeypatch):
    monkeypatch.setattr(reading, "kind", lambda: "portable")
    plain, mixed = model(), model("--decoder-depth-mixing", mixing)
    with pytest.raises(reading.Unknown) as what:
        engine.Engine(mixed.decoder, "fp32")
    assert str(what.value) == f"--depth-mixing {mixing}"
    with pytest.raises(reading.Unknown) as what:  # for another reason
        engine.Engine(plain.decoder.train(), "fp32")
    assert "mixing" not in str(what.value)
    mixed.make_generation_fast_()
    assert not in_one_call(mixed)


def test_ctranslate2_is_refused():
    made = model("--encoder-depth-mixing=dlcl")
    with pytest.raises(UserError, match="CTranslate2 has no dlcl mixing of depths, as in the encoder"):
        to_ctranslate2.check(made, made.args)


def test_what_is_chosen_is_read_from_the_flags_of_a_stored_model():
    args = parse("transformer_rskip", *PRE, "--depth-mixing=denseformer", "--decoder-denseformer-period=3")
    found = {side: stack.ffn.mixing_options for side, stack in connections(args).items()}
    assert found == {"encoder": (("dilation", 1), ("period", 1)), "decoder": (("dilation", 1), ("period", 3))}
