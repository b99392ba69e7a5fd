"""The fused leave-step: every form against the modules it replaces, and the dropout that it draws."""

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn.kernels.chain import Link, Norming, Part
from skipln_fairseq.nn.kernels.leave import cpu, eager, leave
from tests.nn.kernels.chains import CHAINS, Draw, exact, here, in_form, tensors_of

ORDERS = (0, 1, 2, 3, 8)
ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))

needs_compiler = pytest.mark.skipif(not cpu.fits(torch.ones(1)), reason="no C compiler")


def tensors(order, shape=(3, 5, 16), seed=0, dtype=torch.float64):
    """f, x, dy, and the norms' gains and biases."""
    generator = torch.Generator().manual_seed(seed)
    *ends, weights, biases = (
        torch.randn(n, *size, generator=generator, dtype=torch.float64).to(dtype)
        for n, size in ((1, shape), (1, shape), (1, shape), (order, shape[-1:]), (order, shape[-1:]))
    )
    return *(end[0] for end in ends), list(weights), list(biases)


def in_modules(f, x, weights, biases, scale):
    """The step as the reference path takes it, one module after the other."""
    y = f
    for weight, bias in zip(weights, biases, strict=True):
        y = nn.functional.layer_norm(scale * x + y, x.shape[-1:], weight, bias)
    return y if weights else scale * x + y


def gradients(function, dy, *inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    y = function(*inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def links(weights, biases, scale=1.0):
    """The chain of layer norms with these gains and biases; without any the sum."""
    norms = [Norming(Part.LAYER, 1e-5, w, b) for w, b in zip(weights, biases, strict=True)]
    return [Link(scale, norm=norm) for norm in norms or [None]]


def both_ways(order, dtype, shape=(3, 5, 16), scale=1.3, device="cpu"):
    """Output and gradients of the fused step in ``dtype``, and of the modules in float64 from the same numbers."""
    f, x, dy, weights, biases = tensors(order, shape, dtype=dtype)
    f, x, dy = (tensor.to(device) for tensor in (f, x, dy))
    parameters = [p.to(device).requires_grad_() for p in (*weights, *biases)]
    f, x = f.requires_grad_(), x.requires_grad_()
    y = leave(f, x, links(parameters[:order], parameters[order:], scale))
    found = [y.detach(), *torch.autograd.grad(y, [f, x, *parameters], dy)]

    def reference(f, x, *parameters):
        return in_modules(f, x, parameters[:order], parameters[order:], scale)

    exact = [tensor.detach().double() for tensor in (f, x, *parameters)]
    return found, gradients(reference, dy.double(), *exact)


@pytest.mark.parametrize("order", ORDERS)
def test_eager_form_is_the_modules(order):
    found, expected = both_ways(order, torch.float64)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_eager_forms_gradient_is_its_derivative(order):
    f, x, _, weights, biases = tensors(order, (2, 6))
    inputs = [f.requires_grad_(), x.requires_grad_()]
    assert torch.autograd.gradcheck(lambda f, x: leave(f, x, links(weights, biases, 0.7)), inputs)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 16), (4, 100), (33, 7), (1, 1, 512), (2, 1)])
@pytest.mark.parametrize("order", ORDERS)
def test_compiled_form_is_the_modules_within_rounding(order, shape, dtype):
    # arithmetic is float32 in both types: bfloat16 rounds each result once, by half a unit in 8 bits; the float32
    # bound is some units in 24 bits for each step of the recursion
    found, expected = both_ways(order, dtype, shape)
    unit = {torch.float32: (order + 1) * 2**-21, torch.bfloat16: 2**-8}[dtype]
    if shape == (2, 1):  # one feature has no spread: its norm is the bias, and gradients stop there
        found, expected = found[:1], expected[:1]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).abs().max() <= unit * theirs.abs().max()


# what the arithmetic of some steps in float32 costs, and in a result's own type
UNITS = {torch.float32: 2**-19, torch.bfloat16: 2**-7, torch.float64: 2**-40}


@pytest.mark.parametrize("shape", [(3, 5, 16), (33, 7), (2, 130)])
@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        *(pytest.param(cpu, dtype, marks=needs_compiler) for dtype in (torch.float32, torch.bfloat16)),
        *((eager, dtype) for dtype in UNITS),
    ],
)
@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_is_its_definition_forward_and_backward(name, form, dtype, shape):
    draw = Draw(shape[-1], dtype, seed=len(name))
    f, x, dy = (Draw(shape, dtype, seed=seed).vector() for seed in (1, 2, 3))
    chain = CHAINS[name](draw)
    found, _ = in_form(here, form, f, x, chain, dy)
    for ours, theirs in zip(found, exact(f, x, chain, dy), strict=True):
        assert (ours.double() - theirs).abs().max() <= UNITS[dtype] * theirs.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CHAINS)
def test_autograd_gives_each_tensor_of_a_chain_its_gradient(name, dtype):
    f, x, dy = (Draw((4, 16), dtype, seed=seed).vector() for seed in (1, 2, 3))
    chain = CHAINS[name](Draw(16, dtype))
    inputs = [f, x, *tensors_of(chain)]
    for tensor in inputs:
        tensor.requires_grad_()
    y = leave(f, x, chain)
    expected, *wanted = exact(f, x, chain, dy)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=UNITS[dtype] * expected.abs().max())
    for own, wide, tensor in zip(torch.autograd.grad(y, inputs, dy), wanted, inputs, strict=True):
        assert own.shape == tensor.shape
        size = (
            wide.abs().sum() if tensor.numel() == 1 else wide.abs().max()
        )  # one number's is a sum over features
        whole = wide.sum().view(1) if tensor.numel() == 1 else wide
        assert (own.double() - whole).abs().max() <= UNITS[dtype] * size


def threefry(key, block, rounds):
    """Threefry4x32 in numpy: key and block of four words each."""
    with np.errstate(over="ignore"):
        words = [np.uint32(word) for word in key]
        words.append(np.uint32(0x1BD11BDA) ^ words[0] ^ words[1] ^ words[2] ^ words[3])
        v = [np.uint32(b) + words[i] for i, b in enumerate(block)]
        for r in range(rounds):
            first, second = ROTATIONS[r % 8]
            i, j = (1, 3) if r % 2 == 0 else (3, 1)
            for a, b, by in ((0, i, first), (2, j, second)):
                v[a] = v[a] + v[b]
                v[b] = (v[b] << np.uint32(by) | v[b] >> np.uint32(32 - by)) ^ v[a]
            if r % 4 == 3:
                s = r // 4 + 1
                v = [v[i] + words[(s + i) % 5] + np.uint32(s if i == 3 else 0) for i in range(4)]
    return v


def test_the_tests_threefry_is_threefry():
    zeros = (0, 0, 0, 0)  # the published answers to a key and a block of zeros
    assert [f"{w:08x}" for w in threefry(zeros, zeros, 13)] == [
        "531c7e4f",
        "39491ee5",
        "2c855a92",
        "3d6abf9a",
    ]
    assert [f"{w:08x}" for w in threefry(zeros, zeros, 20)] == [
        "9c6ca96a",
        "e17eae66",
        "fc10ecd4",
        "5256a7d8",
    ]


def expected_noise(rows, dim, drop, seed):
    blocks = -(-dim // 4)
    noise = np.empty((rows, blocks * 4))
    for row in range(rows):
        for q in range(blocks):
            number = row * blocks + q
            key = (seed & 0xFFFFFFFF, seed >> 32, 0, 0)
            words = threefry(key, (number & 0xFFFFFFFF, number >> 32, 0, 0), 12)
            noise[row, 4 * q : 4 * q + 4] = [word >= int(drop * 2**32) for word in words]
    return torch.from_numpy(noise[:, :dim]) / (1 - drop)


@needs_compiler
@pytest.mark.parametrize("dim", [16, 7])
@pytest.mark.parametrize("drop", [0.1, 0.5])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_compiled_form_drops_what_threefry_says_forward_and_backward(order, drop, dim):
    f, x, dy, weights, biases = tensors(order, (9, dim), dtype=torch.float32)
    seed = 0x0123456789ABCDEF
    (y, df, dx, *sums), _ = in_form(here, cpu, f, x, links(weights, biases, 0.8), dy, drop, seed)
    noise = expected_noise(9, dim, drop, seed)

    def reference(f, x, *parameters):
        return in_modules(noise * f, x, parameters[:order], parameters[order:], 0.8)

    expected = gradients(reference, dy.double(), *(t.double() for t in (f, x, *weights, *biases)))
    for ours, theirs in zip([y, df, dx, *sums[::2], *sums[1::2]], expected, strict=True):
        assert (ours - theirs).abs().max() <= (order + 1) * 2**-20 * theirs.abs().max()


@needs_compiler
@pytest.mark.parametrize("name", ["everything", "LayerScale", "rms norm"])
def test_compiled_form_drops_the_same_in_every_chain(name):
    f, x, dy = (Draw((9, 20), seed=seed).vector() for seed in (1, 2, 3))
    chain = CHAINS[name](Draw(20))
    found, _ = in_form(here, cpu, f, x, chain, dy, 0.3, 77)
    for ours, theirs in zip(found, exact(f, x, chain, dy, expected_noise(9, 20, 0.3, 77)), strict=True):
        assert (ours - theirs).abs().max() <= 2**-19 * theirs.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_is_seeded_by_torch_and_has_its_rate(dtype):
    ones, zeros = torch.ones(400, 50, dtype=dtype), torch.zeros(400, 50, dtype=dtype)

    def draw(seed):
        torch.manual_seed(seed)
        return leave(ones, zeros, drop=0.3)

    first = draw(1)
    assert torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))
    torch.testing.assert_close(first.unique(), torch.tensor([0, 1 / 0.7], dtype=dtype))
    # 20,000 draws: three standard deviations are 0.01
    assert abs(first.eq(0).double().mean() - 0.3) < 0.01
    assert (
        first.eq(0).double().mean(0).std() < 0.04
    )  # no feature is favoured: one standard deviation is 0.023
    assert leave(ones, zeros, drop=0.0).eq(1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_meets_the_same_dropout(dtype):
    f = torch.full((40, 8), 2.0, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    y = leave(f, torch.zeros_like(f), drop=0.4)
    (df,) = torch.autograd.grad(y.sum(), f)
    torch.testing.assert_close(2 * df, y.detach())


@needs_compiler
def test_threads_do_not_change_what_is_dropped():
    f, x, dy, weights, biases = tensors(2, (11, 12), dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            (y, df, dx, *sums), _ = in_form(here, cpu, f, x, links(weights, biases), dy, 0.3, 7)
            found.append((y, df, dx, torch.stack(sums)))
    finally:
        torch.set_num_threads(threads)
    one, three = found
    assert all(torch.equal(a, b) for a, b in zip(one[:3], three[:3], strict=True))
    torch.testing.assert_close(one[3], three[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [0, 1, 8])
def test_nothing_is_kept_between_the_norms(order, dtype):
    f, x, _, weights, biases = tensors(order, (6, 32), dtype=dtype)
    kept = []
    f, x = f.requires_grad_(), x.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        leave(f, x, links(weights, biases), drop=0.1)
    given = {t.data_ptr() for t in (f, x, *weights, *biases)}
    rest = [t for t in kept if t.data_ptr() not in given]
    assert sum(t.numel() for t in rest) == 2 * order * 6 + 1  # and the seed
    assert order or len(kept) == 2, "without a norm the backward reads neither f nor x"


def test_other_types_and_layouts():
    f, x, _, weights, biases = tensors(2, (4, 6, 8), dtype=torch.float32)
    made = links(weights, biases)
    expected = leave(f.clone(), x.clone(), made)
    assert torch.equal(leave(f.transpose(0, 1), x.transpose(0, 1), made).transpose(0, 1), expected)
    assert leave(f[:0], x[:0], made).shape == (0, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(leave(f, x, made), expected)
        assert leave(f.bfloat16(), x, made).dtype == torch.float32
    half = leave(f.half(), x.half(), links([w.half() for w in weights], [b.half() for b in biases]))
    torch.testing.assert_close(half.float(), expected, rtol=0, atol=2e-2)


def test_a_second_derivative_is_refused():
    f, x, *_ = tensors(0)
    (first,) = torch.autograd.grad(leave(f.requires_grad_(), x).sum(), f, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        torch.autograd.grad(first.sum(), f)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_so(dtype):
    f, x, dy, weights, biases = tensors(2, (3, 16), dtype=dtype)
    f[1, 2], x[2, 0] = float("nan"), float("inf")
    (y, *_), _ = in_form(here, cpu, f, x, links(weights, biases), dy)
    assert y[0].isfinite().all()
    assert y[1:].isnan().all()


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("size", [1e20, 1e30, 1e38])
def test_an_overflow_stays_visible(size, order, dtype):
    f, x, dy, weights, biases = tensors(order, (3, 16), dtype=dtype)
    f[1] *= size
    (y, df, dx, *sums), _ = in_form(here, cpu, f, x, links(weights, biases), dy)
    for found in (y, df, dx):
        assert found[[0, 2]].isfinite().all()
        assert found[1].isnan().all()
    assert torch.stack(sums[:-1]).isnan().all()  # all but the last bias


def test_what_has_no_form_is_refused():
    f = torch.ones(3, 8)
    for link in (
        Link(norm=Norming(Part.LAYER, 1e-5, torch.ones(16))),
        Link(torch.ones(4)),
        Link(torch.ones(1, 8)),
    ):
        with pytest.raises(ValueError, match="a leave-step of 8 features has no parameter of size"):
            leave(f, f, [link])
    with pytest.raises(ValueError, match="no form with the norm LayerNorm"):
        leave(f, f, [Link(norm=nn.LayerNorm(8))])


def test_a_branch_as_small_as_one_row_is_broadcast():
    f, x, dy, weights, biases = tensors(2, (5, 8), dtype=torch.float32)
    row = x[:1].clone().requires_grad_()
    y = leave(f, row, links(weights, biases))
    torch.testing.assert_close(y, in_modules(f, row, weights, biases, 1.0))
    y.backward(dy)
    _, _, expected = gradients(
        lambda f, x: in_modules(f, x, weights, biases, 1.0), dy, f, row.expand(5, 8).detach()
    )
    torch.testing.assert_close(row.grad, expected.sum(0, keepdim=True))
