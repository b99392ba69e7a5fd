"""The fast form of softmax attention against fairseq's own, with the same parameters."""

import copy

import pytest
import torch
from fairseq.modules import MultiheadAttention
from fairseq.modules.sparse_multihead_attention import SparseMultiheadAttention

from skipln_fairseq.models.fast_attention import FastAttention
from skipln_fairseq.nn.attention import softmax
from skipln_fairseq.nn.attention.softmax import additive_mask, softmax_attention
from tests.support.build import batch, build

TIME, KEYS, BATCH, DIM, HEADS = 7, 5, 3, 16, 2
EXACT = {"rtol": 0, "atol": 1e-12}  # of float64, where only the order of sums differs
SINGLE = {
    "rtol": 0,
    "atol": 1e-5,
}  # where fairseq's softmax is its own, which is of single precision whatever it is given

RIGHT = torch.arange(TIME) >= torch.tensor([[TIME], [4], [2]])
LEFT = RIGHT.flip(1)
MEMORY = torch.arange(KEYS) < torch.tensor([[2], [0], [4]])
CAUSAL = torch.full((TIME, TIME), -torch.inf).triu(1)
MASKED = torch.randn(TIME, TIME, generator=torch.Generator().manual_seed(9))

# padding mask and additive mask
CASES = {
    "plain": (None, None),
    "padded on the right": (RIGHT, None),
    "padded on the left": (LEFT, None),
    "causal": (None, CAUSAL),
    "causal, padded on the right": (RIGHT, CAUSAL),
    "causal, padded on the left": (LEFT, CAUSAL),
    "a mask of its own": (None, MASKED),
    "a mask of its own, padded": (LEFT, MASKED),
    "to the encoder": (None, None),
    "to the encoder, padded": (MEMORY, None),
}


def pair(dtype=torch.float64, **kinds):
    """fairseq's attention and the fast form of a copy."""
    torch.manual_seed(1)
    stock = MultiheadAttention(DIM, HEADS, **(kinds or {"self_attention": True}))
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stock = stock.to(dtype)
    return stock, FastAttention.take(copy.deepcopy(stock))


def inputs(dtype=torch.float64, keys=TIME, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, BATCH, DIM, generator=generator).to(dtype) for size in (TIME, keys))


def step(attention, case, dtype=torch.float64, **more):
    """Output and gradients of a step in which padded queries, where queries are padded, do not count."""
    padding, mask = CASES[case]
    to_encoder = case.startswith("to the encoder")
    x, memory = inputs(dtype, KEYS if to_encoder else TIME)
    x.requires_grad_()
    memory.requires_grad_()
    keys = memory if to_encoder else x
    out, weights = attention(
        *(x, keys, keys),
        key_padding_mask=padding,
        attn_mask=None if mask is None else mask.to(dtype),
        static_kv=to_encoder,
        **{"need_weights": False, **more},
    )
    real = out if padding is None or to_encoder else out[~padding.t()]
    attention.zero_grad()
    real.float().sin().sum().backward()
    gradients = {name: p.grad.clone() for name, p in attention.named_parameters()}
    gradients["x"] = x.grad
    if to_encoder:
        gradients["memory"] = memory.grad
    return {"out": real.detach(), **gradients}, weights


def kind(case):
    return {"encoder_decoder_attention" if case.startswith("to the encoder") else "self_attention": True}


def forms(fused, monkeypatch):
    """Take torch's fused form for float64, or the one that is written out."""
    monkeypatch.setattr(softmax, "HALF", () if fused else (torch.float64, torch.float32))


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mask", [None, CAUSAL, torch.full((TIME, TIME), -1e8)], ids=["", "causal", "−1e8"])
def test_a_row_with_nothing_to_attend_to_is_finite(dtype, mask):
    _, fast = pair(dtype)
    x, _ = inputs(dtype)
    x.requires_grad_()
    padding = torch.tensor([[False] * TIME, [True] * TIME, [True] * 3 + [False] * (TIME - 3)])
    mask = None if mask is None else mask.to(dtype)
    out = fast(x, x, x, padding, need_weights=False, attn_mask=mask)[0]
    out.float().square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in fast.parameters())


def test_what_is_left_out_has_no_weight():
    """Also among scores of 10⁵, and in half precision, where the mask's sum with a score rounds."""
    for dtype, scale in ((torch.float16, 30), (torch.bfloat16, 600), (torch.float32, 600)):
        x = scale * torch.randn(4, 1, 1, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
        padding, mask = torch.tensor([[True, False, False, False]]), torch.zeros(4, 4).fill_diagonal_(-1e8)
        values = torch.eye(4, 8, dtype=dtype)[:, None, None]
        both = additive_mask(padding, mask.to(dtype), dtype)
        assert both.isfinite().all()
        weights = softmax_attention(x, x, values, both)[:, 0, :4]
        assert (weights[:, 0] == 0).all()
        assert (weights.diagonal() == 0).all()


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_is_as_near_to_single_precision_as_fairseqs_is(case):
    """Both within 4 units of bfloat16's rounding of the largest value.

    The key bias is measured by the query bias: its own gradient is 0, as it adds the same to all scores of a row.
    """
    stock, fast = pair(torch.bfloat16, **kind(case))
    expected = step(copy.deepcopy(stock).float(), case, torch.float32)[0]
    for attention in (stock, fast):
        for name, value in step(attention, case, torch.bfloat16)[0].items():
            assert value.dtype == torch.bfloat16
            scale = expected["q_proj.bias" if name == "k_proj.bias" else name].abs().max()
            error = (value.float() - expected[name]).abs().max()
            assert error <= 4 * torch.finfo(torch.bfloat16).eps * scale, name


@pytest.mark.parametrize("keys", [softmax.LONGEST, softmax.LONGEST + 1])
def test_bfloat16_over_many_keys(keys):
    """Either form; their sums of so many products are of single precision, so the bound is that of few."""
    generator = torch.Generator().manual_seed(8)
    q, k, v = (torch.randn(n, 2, 2, 8, generator=generator).bfloat16() for n in (4, keys, keys))
    mask = torch.randn(2, 1, 4, keys, generator=generator).bfloat16()
    expected = softmax_attention(q.float(), k.float(), v.float(), mask.float())
    found = softmax_attention(q, k, v, mask)
    assert (found.float() - expected).abs().max() <= 4 * torch.finfo(
        torch.bfloat16
    ).eps * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_on_a_cpu_is_written_out(dtype):
    x = torch.zeros(4, 2, 2, 8, dtype=dtype, requires_grad=True)
    out = softmax_attention(x, x, x)
    assert ("WrittenOut" in type(out.grad_fn).__name__) == (dtype == torch.bfloat16)


def test_autocast_computes_in_half_precision():
    stock, fast = pair(torch.float32)
    expected = step(stock, "padded on the left", torch.float32)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = step(fast, "padded on the left", torch.float32)[0]
    assert found["out"].dtype == torch.bfloat16
    for name in ("out", "x", "v_proj.weight", "q_proj.weight"):
        unit = torch.finfo(torch.bfloat16).eps * expected[name].abs().max()
        assert (found[name].float() - expected[name]).abs().max() <= 8 * unit


@pytest.mark.parametrize("keys", [3, 6])
def test_gradients_of_the_written_out_form(keys, monkeypatch):
    forms(False, monkeypatch)
    generator = torch.Generator().manual_seed(4)
    q, k, v = (
        torch.randn(size, 2, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        for size in (4, keys, keys)
    )
    mask = torch.randn(2, 1, 4, keys, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda *x: softmax_attention(*x, mask), (q, k, v))

    def dropped(*x):
        torch.manual_seed(5)
        return softmax_attention(*x, mask, dropout=0.4)

    assert torch.autograd.gradcheck(dropped, (q, k, v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dropout_drops_weights_and_scales_the_others(dtype):
    """Values of one 1 each show the weights: 1/8 before dropout, 0 or 1/6 after it."""
    torch.manual_seed(6)
    values = torch.eye(8, dtype=dtype)[:, None, None].expand(8, 8, 4, 8)
    q = torch.zeros(64, 8, 4, 8, dtype=dtype)
    k = torch.zeros(8, 8, 4, 8, dtype=dtype)
    weights = softmax_attention(q, k, values, dropout=0.25)
    kept = weights != 0
    # 16384 draws: their mean is within 5 standard deviations of 0.0034
    assert abs(kept.float().mean() - 0.75) < 0.017
    torch.testing.assert_close(weights[kept].float(), torch.full_like(weights[kept], 1 / 6).float())
    assert (softmax_attention(q, k, values) == 1 / 8).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dropout_is_of_training_or_retained(dtype):
    _, fast = pair(dtype, dropout=0.5, self_attention=True)
    x, _ = inputs(dtype)
    run = lambda: fast(x, x, x, need_weights=False)[0]  # noqa: E731
    assert not torch.equal(run(), run())
    fast.eval()
    assert torch.equal(run(), run())
    fast.dropout_module.apply_during_inference = True
    assert not torch.equal(run(), run())


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
