"""FAVOR+ in pure torch: against attention with its features written out, and against the paper's closed forms."""

import math
from itertools import pairwise

import pytest
import torch

from skipln_fairseq.nn.attention import KERNELS, Favor, FavorConfig, LinearAttention
from skipln_fairseq.nn.attention.features import draw_projection

BATCH, HEADS, LENGTH, DIM = 2, 2, 11, 4
SOFTMAX_KERNELS = ("positive", "hyperbolic", "trigonometric")


def attention(kernel, features=6, dim=DIM, chunk=4):
    made = LinearAttention(KERNELS[kernel](features, dim).double(), chunk)
    made.features.projection.copy_(draw_projection(features, dim, torch.Generator().manual_seed(1)))
    return made


def inputs(length=LENGTH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, BATCH, HEADS, length, DIM)
    padding = torch.zeros(BATCH, length, dtype=torch.bool)
    padding[0, :2] = True  # nothing real yet: outputs of zero
    padding[1, -3:] = True
    return (*torch.randn(shape, generator=generator, dtype=torch.float64), padding)


def written_out(made, q, k, v, padding, causal):
    """All φ(q_i)·φ(k_j) at once, the features with their common factors."""
    f_q, f_k = (features * scale.exp() for features, scale in (made.features(q), made.features(k)))
    weights = f_q @ f_k.transpose(-1, -2)
    weights = weights.masked_fill(padding[:, None, None], 0)
    weights = weights.tril() if causal else weights
    total = weights.sum(-1, keepdim=True)
    return torch.where(total == 0, 0.0, weights @ v / torch.where(total == 0, 1.0, total))


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_forward_and_backward_equal_attention_written_out(kernel, causal, chunk):
    made, (q, k, v, padding) = attention(kernel, chunk=chunk), inputs()
    q, k, v = (t.requires_grad_() for t in (q, k, v))
    expected = written_out(made, q, k, v, padding, causal)
    found = (made.causal if causal else made)(q, k, v, padding)
    # trigonometric features are of both signs: sums near zero lose digits
    bound = {"rtol": 1e-9, "atol": 1e-9} if kernel == "trigonometric" else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(found, expected, **bound)
    gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    for ours, theirs in zip(
        torch.autograd.grad(found, (q, k, v), gradient),
        torch.autograd.grad(expected, (q, k, v), gradient),
        strict=True,
    ):
        scale = theirs.abs().max()
        torch.testing.assert_close(ours / scale, theirs / scale, **bound)


@pytest.mark.parametrize("kernel", ["positive", "hyperbolic", "trigonometric"])
def test_the_causal_gradient_is_the_forwards_derivative(kernel):
    made, (q, k, v, padding) = attention(kernel), inputs(5)
    padding[:] = False
    q, k, v = (0.5 * t[:1, :1].requires_grad_() for t in (q, k, v))
    assert torch.autograd.gradcheck(lambda *qkv: made.causal(*qkv, padding[:1]), (q, k, v))


@pytest.mark.parametrize("kernel", KERNELS)
def test_step_by_step_equals_the_causal_form(kernel):
    made, (q, k, v, padding) = attention(kernel), inputs()
    state, largest = made.start(v)
    size = state.numel()
    outputs = []
    for i in range(LENGTH):
        here = slice(i, i + 1)
        newest = (q[:, :, here], k[:, :, here], v[:, :, here], padding[:, here])
        out, state, largest = made.step(*newest, state, largest)
        outputs.append(out)
        assert state.numel() == size
    expected = made.causal(q, k, v, padding)
    torch.testing.assert_close(torch.cat(outputs, -2), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_later_positions_and_padding_change_no_bit(kernel):
    """Also keys so large that a maximum over all of them would leave nothing of the earlier ones."""
    made, (q, k, v, padding) = attention(kernel), inputs()
    before = made.causal(q, k, v, padding)
    later = [t.clone() for t in (q, k, v)]
    for t in later:
        t[:, :, 7:] *= 40
    assert torch.equal(made.causal(*later, padding)[:, :, :7], before[:, :, :7])
    for form in (made.causal, made):
        before = form(q, k, v, padding)
        k_2, v_2 = k.clone(), v.clone()
        k_2.transpose(1, 2)[padding], v_2.transpose(1, 2)[padding] = 40.0, -40.0
        after = form(q, k_2, v_2, padding).transpose(1, 2)
        assert torch.equal(after[~padding], before.transpose(1, 2)[~padding])


@pytest.mark.parametrize("kernel", ["positive", "hyperbolic", "relu"])
def test_large_inputs_are_finite(kernel):
    made = LinearAttention(KERNELS[kernel](16, 8))
    made.features.projection.copy_(draw_projection(16, 8, torch.Generator().manual_seed(1)))
    q, k, v = (30 * torch.randn(3, 1, 1, 200, 8, generator=torch.Generator().manual_seed(3))).requires_grad_()
    padding = torch.zeros(1, 200, dtype=torch.bool)
    out = made.causal(q, k, v, padding)
    assert out.isfinite().all()
    assert out.ne(0).any(-1).double().mean() > 0.5  # the rest has weights that single precision does not hold
    torch.testing.assert_close(made.causal(q / 30, k / 30, v, padding)[:, :, 0], v[:, :, 0])
    gradients = torch.autograd.grad(out.square().sum(), (q, k, v))
    assert all(g.isfinite().all() for g in gradients)


def estimates(kernel, x, y, features, draws, orthogonal):
    """φ(x)·φ(y) of many draws of ω."""
    generator = torch.Generator().manual_seed(3)
    found = torch.empty(draws, dtype=torch.float64)
    made = KERNELS[kernel](features, x.numel()).double()
    for i in range(draws):
        made.projection.copy_(draw_projection(features, x.numel(), generator, orthogonal=orthogonal))
        (f_x, s_x), (f_y, s_y) = made(x), made(y)
        found[i] = (f_x * f_y).sum() * (s_x + s_y).exp().squeeze()
    return found


def closed_form(kernel, x, y, m):
    """Mean squared errors of Choromanski et al. 2021, its Lemma 2, for independent ω."""
    sm, plus, minus = ((a @ b).exp() for a, b in ((x, y), (x + y, x + y), (x - y, x - y)))
    positive = plus * sm**2 * (1 - 1 / plus) / m
    return {
        "trigonometric": plus / sm**2 * (1 - 1 / minus) ** 2 / (2 * m),
        "positive": positive,
        "hyperbolic": positive * (1 - 1 / plus) / 2,
    }[kernel].item()


X = torch.tensor([0.30, -0.20, 0.25, 0.10, 0.00, 0.20], dtype=torch.float64)
Y = torch.tensor([0.10, 0.35, -0.15, 0.30, -0.20, 0.15], dtype=torch.float64)


@pytest.mark.parametrize("kernel", SOFTMAX_KERNELS)
def test_the_estimate_is_unbiased_with_the_papers_error(kernel):
    """10,000 draws of four features at ‖x + y‖ ≤ 1; four standard errors (one failure in 16,000 seeds)."""
    assert (X + Y).norm() <= 1
    found = estimates(kernel, X, Y, 4, 10_000, orthogonal=False)
    errors = found - (X @ Y).exp()
    assert abs(errors.mean()) <= 4 * errors.std() / math.sqrt(len(errors))
    squared = errors.square()
    assert abs(squared.mean() - closed_form(kernel, X, Y, 4)) <= 4 * squared.std() / math.sqrt(len(squared))


@pytest.mark.parametrize("kernel", SOFTMAX_KERNELS)
def test_orthogonal_features_are_unbiased_and_no_worse(kernel):
    """As many features as dimensions; the paper's Theorem 2 says strictly less error for positive ones."""
    errors = estimates(kernel, X, Y, 6, 10_000, orthogonal=True) - (X @ Y).exp()
    assert abs(errors.mean()) <= 4 * errors.std() / math.sqrt(len(errors))
    squared = errors.square()
    assert squared.mean() - 4 * squared.std() / math.sqrt(len(squared)) <= closed_form(kernel, X, Y, 6)


def test_orthogonal_positive_features_have_less_error_than_independent_ones():
    """The paper's Theorem 2, MSE(orthogonal) ≤ MSE(independent) − 2(m − 1)/(m(d + 2)) (SM − exp(−(‖x‖² + ‖y‖²)/2))²."""
    d = m = 6
    squared = (estimates("positive", X, Y, m, 40_000, orthogonal=True) - (X @ Y).exp()).square()
    gap = 2 * (m - 1) / (m * (d + 2)) * ((X @ Y).exp() - (-(X @ X + Y @ Y) / 2).exp()) ** 2
    margin = 4 * squared.std() / math.sqrt(len(squared))
    assert margin < gap, "too few draws to tell"
    assert squared.mean() <= closed_form("positive", X, Y, m) - gap + margin


@pytest.mark.parametrize("kernel", ["positive", "hyperbolic"])
def test_the_output_converges_to_softmax_attention(kernel):
    q, k, v, padding = inputs()
    q, k = 0.6 * q, 0.6 * k
    weights = (q @ k.transpose(-1, -2)).masked_fill(padding[:, None, None], -math.inf).softmax(-1)
    errors = [
        (attention(kernel, features)(q, k, v, padding) - weights @ v).square().mean().sqrt()
        for features in (8, 128, 2048, 32768)
    ]
    # four times closer with each factor of 16, up to the luck of one draw
    assert all(after < before / 2 for before, after in pairwise(errors))
    assert errors[-1] < 0.05


@pytest.mark.parametrize("features", [3, 6, 15])
def test_the_projection(features):
    generator = torch.Generator().manual_seed(1)
    drawn = draw_projection(features, 6, generator)
    assert drawn.shape == (features, 6)
    for block in drawn.split(6):
        gram = block @ block.t()
        torch.testing.assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-12)
    fixed = draw_projection(features, 6, generator, fixed_length=True)
    torch.testing.assert_close(fixed.norm(dim=1), torch.full((features,), 6**0.5, dtype=torch.float64))
    free = draw_projection(features, 6, generator, orthogonal=False)
    assert (free @ free.t() - (free @ free.t()).diagonal().diag()).abs().max() > 0.1
    many = torch.stack([draw_projection(6, 6, generator) for _ in range(2000)])
    assert many.mean((0, 1)).abs().max() < 4 / math.sqrt(12_000)
    assert abs(many.square().sum(-1).mean() - 6) < 4 * math.sqrt(12 / 12_000)


def test_a_draw_follows_from_seed_layer_and_number_alone():
    def drawn(layer=0, redraws=0, **more):
        favor = Favor(4, FavorConfig(features=8, **more), layer)
        favor.draw(redraws)
        return favor.features.projection

    before = torch.get_rng_state()
    assert torch.equal(drawn(), drawn())
    assert torch.equal(torch.get_rng_state(), before)
    others = (
        drawn(layer=1),
        drawn(redraws=1),
        drawn(seed=2),
        drawn(orthogonal=False),
        drawn(fixed_length=True),
    )
    assert not any(torch.equal(drawn(), other) for other in others)


def test_the_causal_form_keeps_no_features_for_the_backward():
    """What autograd keeps grows with the length and not with the number of features."""

    def kept(features, length):
        made, count = LinearAttention(KERNELS["positive"](features, DIM).double(), 4), []
        q, k, v = (torch.randn(1, 1, length, DIM, dtype=torch.float64, requires_grad=True) for _ in range(3))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: count.append(t.numel()) or t, lambda t: t):
            made.causal(q, k, v, torch.zeros(1, length, dtype=torch.bool))
        return sum(count)

    assert kept(8, 40) == kept(512, 40)
    assert kept(8, 80) == 2 * kept(8, 40)
    assert kept(8, 40) <= 40 * (4 * DIM + 3)  # q, k, v, out, and three numbers a position
