"""The fast form of softmax attention in itself: half precision, rows without keys, dropout, gradients."""

import copy

import pytest
import torch

from skipln_fairseq.nn.attention import softmax
from skipln_fairseq.nn.attention.softmax import additive_mask, softmax_attention
from tests.support.attention import (
    CASES,
    CAUSAL,
    TIME,
    forms,
    inputs,
    kind,
    pair,
    step,
)


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
