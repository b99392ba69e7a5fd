"""The fast form of softmax attention against fairseq's own, with the same parameters."""

import pytest
import torch
from fairseq.modules import MultiheadAttention
from fairseq.modules.sparse_multihead_attention import SparseMultiheadAttention

from skipln_fairseq.models.fast_attention import FastAttention
from tests.support.attention import (
    BATCH,
    CASES,
    CAUSAL,
    DIM,
    EXACT,
    HEADS,
    KEYS,
    LEFT,
    MASKED,
    SINGLE,
    TIME,
    forms,
    inputs,
    kind,
    pair,
    step,
)
from tests.support.build import batch, build


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_fairseqs(case, fused, monkeypatch):
    forms(fused, monkeypatch)
    stock, fast = pair(**kind(case))
    assert type(fast) is FastAttention
    expected, _ = step(stock, case)
    monkeypatch.setattr(MultiheadAttention, "forward", None)  # which is not needed
    found, weights = step(fast, case)
    assert weights is None
    assert found.keys() == expected.keys()
    near = SINGLE if case.startswith("to the encoder") else EXACT
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], **near, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", ["causal", "causal, padded on the left", "plain"])
def test_told_that_masks_are_causal_it_gives_the_same(case):
    stock, fast = pair()
    fast.causal = True
    expected, found = step(stock, case)[0], step(fast, case)[0]
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **EXACT)


def test_told_that_masks_are_causal_it_does_not_read_them():
    _, fast = pair()
    x, _ = inputs()
    hidden = fast(x, x, x, need_weights=False, attn_mask=CAUSAL.double())[0]
    fast.causal = True
    unread = fast(x, x, x, need_weights=False, attn_mask=MASKED.double())[0]
    torch.testing.assert_close(unread, hidden, **EXACT)


OTHERWISE = {
    "weights": {"need_weights": True},
    "weights of heads": {"need_weights": False, "need_head_weights": True},
    "forbidden in bool": {"attn_mask": CAUSAL.isinf()},
    "a mask for each head": {"attn_mask": CAUSAL.double().expand(BATCH * HEADS, TIME, TIME)},
    "a learned mask": {"attn_mask": MASKED.double().requires_grad_()},
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_what_else_is_asked_for_is_fairseqs_computation(case):
    stock, fast = pair()
    x, _ = inputs()
    call = {"key_padding_mask": LEFT, "need_weights": False, **OTHERWISE[case]}
    for found, expected in zip(fast(x, x, x, **call), stock(x, x, x, **call), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_learned_mask_learns(dtype):
    _, fast = pair(dtype)
    x, _ = inputs(dtype)
    mask = MASKED.to(dtype).requires_grad_()
    fast(x, x, x, need_weights=False, attn_mask=mask)[0].sum().backward()
    assert mask.grad.abs().max() > 0


def test_keys_and_values_of_different_lengths_are_refused_as_by_fairseq():
    """torch's form would read past the end of the shorter ones."""
    _, fast = pair(encoder_decoder_attention=True)
    x, memory = inputs(keys=KEYS)
    with pytest.raises(AssertionError, match="do not match value"):
        fast(x, x, memory, need_weights=False)


@torch.no_grad()
@pytest.mark.parametrize("to_encoder", [False, True])
def test_incremental_decoding_is_fairseqs_computation(to_encoder):
    stock, fast = pair(**kind("to the encoder" if to_encoder else ""))
    x, memory = inputs(keys=KEYS)
    states = {}, {}
    for position in x.split(1):
        call = {"need_weights": False, "static_kv": to_encoder}
        keys = memory if to_encoder else position
        expected, found = (
            attention(position, keys, keys, incremental_state=state, **call)[0]
            for attention, state in zip((stock, fast), states, strict=True)
        )
        assert torch.equal(found, expected)
    sizes = [{v.size(2) for v in next(iter(state.values())).values() if v is not None} for state in states]
    assert sizes[0] == sizes[1] == {KEYS if to_encoder else TIME}


@torch.no_grad()
def test_one_row_of_keys_for_all_beams_is_fairseqs_computation():
    """After set_beam_size a forced pass gets keys once a beam or once a sentence, and projects one row of them."""
    stock, fast = pair(encoder_decoder_attention=True)
    x, memory = inputs(keys=KEYS)
    beams = x.repeat_interleave(2, 1)
    call = {"need_weights": False, "static_kv": True}
    for beam_size, keys in ((1, memory), (2, memory), (2, memory.repeat_interleave(2, 1))):
        for attention in (stock, fast):
            attention.set_beam_size(beam_size)
        assert torch.equal(fast(beams, keys, keys, **call)[0], stock(beams, keys, keys, **call)[0])


def test_what_has_more_to_it_is_left_as_it_is():
    more = (
        MultiheadAttention(DIM, HEADS, q_noise=0.1, qn_block_size=4, self_attention=True),
        MultiheadAttention(DIM, HEADS, add_bias_kv=True, self_attention=True),
        MultiheadAttention(DIM, HEADS, add_zero_attn=True, self_attention=True),
        SparseMultiheadAttention(DIM, HEADS, self_attention=True),
    )
    for attention in more:
        before = type(attention)
        assert FastAttention.take(attention) is attention
        assert type(attention) is before


def test_parameters_keep_their_names_and_projections_may_be_replaced():
    stock, fast = pair()
    assert list(fast.state_dict()) == list(stock.state_dict())
    for attention in (stock, fast):
        attention.out_proj = torch.nn.Sequential(attention.out_proj, torch.nn.Tanh())
        attention.skip_embed_dim_check = True
    expected, found = step(stock, "padded on the left")[0], step(fast, "padded on the left")[0]
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **SINGLE)


@torch.no_grad()
def test_scripted_saved_and_reloaded_equals_eager(tmp_path):
    stock, fast = pair()
    x, _ = inputs()
    call = {"key_padding_mask": LEFT, "attn_mask": MASKED.double(), "need_weights": False}
    expected = stock(x, x, x, **call)[0]
    torch.jit.script(fast).save(str(tmp_path / "attention.pt"))
    reloaded = torch.jit.load(str(tmp_path / "attention.pt"))
    for attention in (reloaded, fast):
        torch.testing.assert_close(attention(x, x, x, **call)[0], expected, **SINGLE)


@torch.no_grad()
def test_scripted_models_decode_as_eager_ones(tmp_path):
    model = build("transformer_rskip", "--export").eval()
    before = model(*batch())[0]
    for attention in [m for m in model.modules() if isinstance(m, MultiheadAttention)]:
        FastAttention.take(attention)
    scripted = torch.jit.script(model)
    scripted.save(str(tmp_path / "model.pt"))
    for again in (torch.jit.load(str(tmp_path / "model.pt")), model):
        torch.testing.assert_close(again(*batch())[0], before, **SINGLE)


MODELS = {
    "plain": "--skip-type plain",
    "cross-self-attention": "--skip-type plain --cross-self-attention --no-cross-attention",
    "sub-LN": "--skip-type plain --norm-placement sub",
    "checkpointed": "--checkpoint-activations",
}


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("name", MODELS)
def test_models_learn_the_same(name, fused, monkeypatch):
    """Logits and gradients of real positions."""
    forms(fused, monkeypatch)
    models = [build("transformer_rskip", "--dropout", "0", *MODELS[name].split()).double() for _ in range(2)]
    taken = [FastAttention.take(m) for m in models[1].modules() if isinstance(m, MultiheadAttention)]
    assert taken
    assert all(isinstance(attention, FastAttention) for attention in taken)
    source, lengths, target = batch()
    logits = []
    for model in models:
        logits.append(model(source, lengths, target)[0][target.ne(1)])
        logits[-1].sin().sum().backward()
    torch.testing.assert_close(logits[1], logits[0], **SINGLE)
    for (key, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, **SINGLE, msg=lambda text, key=key: f"{key}: {text}")
