"""Value residuals against their oracles in whole models, and how these decode, script, learn and are refused."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq import to_ctranslate2
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import engine, reading, resume
from skipln_fairseq.models.beams import KEY
from skipln_fairseq.models.export import export_encoder, export_step
from skipln_fairseq.models.stacks import SkipDecoder, SkipEncoder
from skipln_fairseq.nn import VALUES
from skipln_fairseq.nn.kernels.decode import kind
from tests.models import test_language_model as language_model
from tests.models.test_mixing import gradients
from tests.support.build import assert_padding_never_leaks, batch, build, parse

DEEP = ("--skip-type", "plain", "--encoder-layers", "3", "--decoder-layers", "4")
RESIDUAL = [name for name in VALUES if name != "none"]


def model(name, *flags, seed=1):
    """In evaluation, its weights away from where they start."""
    made = build("transformer_rskip", *DEEP, "--value-residual", name, *flags, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if "_attn_values." in key or key.endswith("_proj.bias"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def watched(stack):
    """What each block's self-attention is called with and gives, as lists that a pass fills."""
    calls = []

    def keep(module, args, kwargs, output):
        calls.append((kwargs["query"].detach().numpy(), output[0].detach().numpy()))

    for layer in stack.layers:
        layer.self_attn.register_forward_hook(keep, with_kwargs=True)
    return calls


def linear(projection, x):
    return x @ projection.weight.detach().numpy().T + projection.bias.detach().numpy()


def heads(x, number):
    return x.reshape(*x.shape[:-1], number, -1).transpose(1, 2, 0, 3)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("name", VALUES)
def test_self_attention_of_real_blocks_sums_the_values_of_the_oracle(name, side, kernels):
    made = model(name, "--kernels", kernels)
    source, lengths, target = batch()
    calls = watched(getattr(made, side))
    made(source, lengths, target)
    layers = getattr(made, side).layers
    assert len(calls) == len(layers)
    own = [linear(layer.self_attn.v_proj, h) for layer, (h, _) in zip(layers, calls, strict=True)]
    numbers = [
        {key: value.detach().numpy() for key, value in layer.self_attn_values.named_parameters()}
        if name != "none"
        else {}
        for layer in layers
    ]
    values = import_module(f"tests.oracles.value.{name}").values(own, numbers)
    padding = (source if side == "encoder" else target).eq(1).numpy()
    for layer, (h, found), v in zip(layers, calls, values, strict=True):
        attention = layer.self_attn
        q, k, v = (
            heads(each, attention.num_heads)
            for each in (linear(attention.q_proj, h), linear(attention.k_proj, h), v)
        )
        scores = q @ k.swapaxes(-1, -2) / attention.head_dim**0.5
        hidden = padding[:, None, None] | (np.triu(np.ones(scores.shape[-2:], bool), 1) & (side == "decoder"))
        scores = np.where(hidden, -np.inf, scores)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        out = (shares / shares.sum(-1, keepdims=True)) @ v
        expected = linear(attention.out_proj, out.transpose(2, 0, 1, 3).reshape(h.shape))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_without_a_value_residual_the_stacks_are_the_ones_that_there_were():
    plain, named = build("transformer_rskip"), build("transformer_rskip", "--value-residual", "none")
    for made in (plain, named):
        assert (type(made.encoder), type(made.decoder)) == (SkipEncoder, SkipDecoder)
        assert type(made.encoder.layers[0].self_attn.v_proj) is nn.Linear
    assert plain.state_dict().keys() == named.state_dict().keys()


def test_the_learned_one_starts_as_the_fixed_one_bit_for_bit():
    fixed, learned = (build("transformer_rskip", *DEEP, "--value-residual", name).eval() for name in RESIDUAL)
    weights = {key for key in learned.state_dict() if "_attn_values." in key}
    sides = {("encoder", 3), ("decoder", 4)}
    assert weights == {
        f"{side}.layers.{n}.self_attn_values.weight" for side, blocks in sides for n in range(1, blocks)
    }
    assert learned.state_dict().keys() - weights == fixed.state_dict().keys()
    assert torch.equal(fixed(*batch())[0], learned(*batch())[0])
    assert not torch.equal(fixed(*batch())[0], build("transformer_rskip", *DEEP).eval()(*batch())[0])


def decoded(made, source, lengths, target):
    """The steps of incremental decoding, and what is kept after the last."""
    encoder_out, state, steps = made.encoder(source, lengths), {}, []
    for end in range(1, target.size(1) + 1):
        steps.append(
            made.decoder(target[:, :end], encoder_out=encoder_out, incremental_state=state)[0][:, -1]
        )
    return torch.stack(steps, 1), state


def shapes(state):
    if KEY in state:
        return sorted((len(memory), memory.stride) for memory in state[KEY].memories.values())
    return sorted(tuple(one.shape) for kept in state.values() for one in kept.values() if one is not None)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", RESIDUAL)
@torch.no_grad()
def test_it_decodes_step_by_step_and_keeps_no_more_than_the_plain_model(name, kernels):
    source, lengths, target = batch()
    made = model(name, "--kernels", kernels)
    full, real = made(source, lengths, target)[0], target.ne(1)
    steps, state = decoded(made, source, lengths, target)
    torch.testing.assert_close(steps[real], full[real], rtol=1e-4, atol=1e-5)
    assert (KEY in state) == (kernels == "fast")
    _, plain = decoded(model("none", "--kernels", kernels), source, lengths, target)
    assert shapes(state) == shapes(plain)
    assert shapes(state)


JOINED = ("--cross-self-attention", "--no-cross-attention")


@pytest.mark.parametrize("flags", [(), ("--attention-type", "favor"), ("--qk-norm", "rms"), JOINED])
@pytest.mark.parametrize("name", RESIDUAL)
def test_it_scripts_and_padding_never_leaks(name, flags):
    made = model(name, "--export", *flags)
    torch.testing.assert_close(torch.jit.script(made)(*batch())[0], made(*batch())[0], rtol=1e-4, atol=1e-5)
    assert_padding_never_leaks(made, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RESIDUAL)
def test_favor_decodes_with_the_mixed_values(name):
    made = model(name, "--attention-type", "favor")
    source, lengths, target = batch()
    full, real = made(source, lengths, target)[0], target.ne(1)
    with torch.no_grad():
        torch.testing.assert_close(
            decoded(made, source, lengths, target)[0][real], full[real], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("attention", ["softmax", "favor"])
def test_with_no_weight_for_the_first_values_it_is_the_model_without(attention):
    made = model("learnable", "--attention-type", attention)
    plain = model("none", "--attention-type", attention)
    plain.load_state_dict(made.state_dict(), strict=False)
    assert not torch.allclose(made(*batch())[0], plain(*batch())[0], atol=1e-3)
    for key, parameter in made.named_parameters():
        if "_attn_values." in key:
            parameter.data.copy_(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(made(*batch())[0], plain(*batch())[0])


@pytest.mark.parametrize("name", RESIDUAL)
def test_checkpointed_activations_give_the_same_gradients_and_all_learn(name):
    plain = model(name, "--dropout", "0.3").train()
    again = model(name, "--dropout", "0.3", "--checkpoint-activations").train()
    again.load_state_dict(plain.state_dict())
    torch.manual_seed(3)
    expected = gradients(plain)
    torch.manual_seed(3)
    for key, value in gradients(again).items():
        torch.testing.assert_close(value, expected[key], msg=key)
        assert value.abs().max() > 0 or "k_proj.bias" in key


@pytest.mark.parametrize("name", RESIDUAL)
def test_its_gradient_is_the_derivative(name):
    """That of the first block's values too, which are remembered with it."""
    start, one = VALUES[name].build(0), VALUES[name].build(2).double()
    names, parameters = zip(*one.named_parameters(), strict=True) if list(one.parameters()) else ((), ())
    tensors = [torch.randn(2, 4, dtype=torch.float64) for _ in range(2)]

    def call(v, first, *rest):
        memory = []
        first = start(first, memory)
        return first, torch.func.functional_call(one, dict(zip(names, rest, strict=True)), (v, memory))

    assert torch.autograd.gradcheck(call, tuple(each.requires_grad_() for each in (*tensors, *parameters)))


@pytest.mark.parametrize("name", RESIDUAL)
def test_half_precision_is_near(name):
    made = model(name)
    expected = made(*batch())[0]
    torch.testing.assert_close(made.bfloat16()(*batch())[0].float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", RESIDUAL)
def test_one_side_alone_a_language_model_and_streams_have_it_too(name):
    made = build("transformer_rskip", *DEEP, "--decoder-value-residual", name)
    assert type(made.encoder) is SkipEncoder
    assert type(made.decoder.layers[1].encoder_attn.v_proj) is nn.Linear  # its values are the encoder's
    lm = language_model.build("transformer_lm_rskip", f"--skip-type plain --value-residual {name}").eval()
    target = language_model.batch()
    full, state = lm(target)[0], {}
    for end in range(1, target.size(1) + 1):
        step = lm(target[:, :end], incremental_state=state)[0]
        torch.testing.assert_close(step[0, -1], full[0, end - 1], rtol=1e-4, atol=1e-5)
    wide = build("transformer_rskip", "--skip-type", "siamese", "--value-residual", name)
    assert wide(*batch())[0].isfinite().all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--value-residual half", "--value-residual half: valid are none, "),
        (
            "--value-residual identity --encoder-solver rk2 --norm-placement pre",
            "which applies a block again",
        ),
        (
            "--value-residual identity --encoder-layerdrop 0.1",
            "--encoder-layerdrop does not go with --value-res",
        ),
        (
            "--decoder-value-residual learnable --decoder-layers-to-keep 0,2",
            "--decoder-layers-to-keep does not",
        ),
        (
            "--decoder-value-residual learnable --base-layers 1",
            "--base-layers does not go with --value-residual",
        ),
        (
            "--value-residual identity --quant-noise-pq 0.1",
            "--quant-noise-pq does not go with --value-residual",
        ),
        ("--value-residual identity --checkpoint-activations --offload-activations", "--offload-activations"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *DEEP, *flags.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_who_does_not_know_it_says_so(monkeypatch):
    made = model("learnable")
    for export in (export_encoder, export_step):
        with pytest.raises(UserError, match="no --value-residual learnable"):
            export(made)
    with pytest.raises(UserError, match="CTranslate2 has no learnable value residual, as in the encoder"):
        to_ctranslate2.check(made, made.args)
    monkeypatch.setattr(reading, "kind", lambda: "portable")
    with pytest.raises(reading.Unknown, match="--value-residual learnable"):
        engine.Engine(made.decoder, "fp32")
    made.make_generation_fast_()
    assert "advance" not in vars(made.decoder)
    source, lengths, target = batch()
    with torch.no_grad():
        full, real = model("learnable")(source, lengths, target)[0], target.ne(1)
        steps, _ = decoded(made, source, lengths, target)
    bound = 2**-13 if kind() == "amx" else 1e-5  # which multiplies two bfloat16 parts of each number
    torch.testing.assert_close(steps[real], full[real], rtol=1e-4, atol=bound)


def test_a_resumed_run_is_told():
    found = resume._changes(
        parse("transformer_rskip"), parse("transformer_rskip", "--value-residual=identity")
    )
    assert found.connections == [f"{side} value residual none → identity" for side in ("encoder", "decoder")]
