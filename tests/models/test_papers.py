"""What the papers prove or measure of these connections, as statements about our layers.

Where a paper's statement has assumptions, the layers are brought under them: parameters overwritten, eps set
to 0, dropout off. Measured numbers in the docstrings are those of the seeds used.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from skipln_fairseq.nn import NORMS
from skipln_fairseq.nn.skip.deepnorm import deepnorm_constants
from tests.support.build import build

DIM = 24
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64: only the order of sums differs


def model_of(*flags, layers=(2, 2), width=32, hidden=None, seed=1):
    """An encoder-decoder without dropout, as wide on both sides, in training."""
    sizes = []
    for side, depth in zip(("encoder", "decoder"), layers, strict=True):
        sizes += [f"--{side}-layers", str(depth), f"--{side}-embed-dim", str(width)]
        sizes += [f"--{side}-ffn-embed-dim", str(hidden or 2 * width)]
    return build("transformer_rskip", *sizes, "--dropout", "0", *flags, seed=seed).train()


def tokens(seed, sentences, length):
    """Source, its lengths, shifted target and random target, without padding."""
    generator = torch.Generator().manual_seed(seed)
    source, shifted, target = torch.randint(4, 44, (3, sentences, length), generator=generator)
    return source, torch.full((sentences,), length), shifted, target


def slope(xs, ys):
    """Of the line through the points with the least squares."""
    x, y = torch.tensor(xs, dtype=torch.float64), torch.tensor(ys, dtype=torch.float64)
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


# Xu et al. 2019, arXiv:1911.07013

THEOREM_1 = {
    # norm: (the mean's gradient is there, the deviation's gradient is there)
    "detach": (False, False),
    "detach-mean": (False, True),
    "detach-deviation": (True, False),
    "layer-simple": (True, True),
}


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("name", THEOREM_1)
def test_gradients_of_detached_norms_have_the_mean_and_the_variance_of_theorem_1(name, eps):
    """AdaNorm paper, Theorem 1: mean and variance over the features of the gradient after the norm.

    With incoming mean ḡ and variance D, and the forward's σ = √(Var + eps), the gradient's mean is 0 where the
    norm's mean has a gradient and ḡ/σ where it has none; its variance is D/σ² where the deviation has no
    gradient and at most that where it has one. What is lost is known: with c = Cov(g, y) and r = mean(y²),
    which is 1 for eps 0, it is c²(2 − r)/σ². So all four statements hold for every vector and every eps, and
    none of them only in expectation.
    """
    through_mean, through_deviation = THEOREM_1[name]
    norm = NORMS[name](DIM)
    norm.eps = eps
    generator = torch.Generator().manual_seed(0)

    def draw():
        """2000 vectors, each with a mean and a scale of its own."""
        shift, scale = torch.randn(2, 2000, 1, generator=generator, dtype=torch.float64)
        values = torch.randn(2000, DIM, generator=generator, dtype=torch.float64)
        return shift + scale.exp() * values

    v, g = draw().requires_grad_(), draw()
    y = norm(v)
    (gradient,) = torch.autograd.grad(y, v, g)
    y, sigma = y.detach(), (v.detach().var(-1, correction=0) + eps).sqrt()
    incoming = g.var(-1, correction=0) / sigma**2
    mean, variance = gradient.mean(-1), gradient.var(-1, correction=0)

    expected = torch.zeros_like(mean) if through_mean else g.mean(-1) / sigma
    torch.testing.assert_close(mean * sigma, expected * sigma, **EXACT)
    covariance, r = (g * (y - y.mean(-1, keepdim=True))).mean(-1), y.square().mean(-1)
    lost = covariance**2 * (2 - r) / sigma**2 if through_deviation else 0
    torch.testing.assert_close(variance * sigma**2, (incoming - lost) * sigma**2, **EXACT)
    assert (variance <= incoming * (1 + 1e-10)).all()
    if through_deviation:
        # a random g shares 1/(DIM − 1), about 4 %, of its variance with y in the mean
        assert 0.02 < 1 - (variance / incoming).mean() < 0.07


@pytest.mark.parametrize(("c", "k"), [(1.0, 0.1), (2.0, 0.05)])
def test_the_bracket_of_adanorm_has_mean_c_and_its_output_is_bounded_in_the_mean(c, k):
    """AdaNorm paper, requirements of Theorem 2: φ = C(1 − ky) has mean C > 0 and z = φ ⊙ y a bounded mean.

    With eps 0 that mean is −Ck for every vector, since y has mean 0 and quadratic mean 1.
    """
    norm = NORMS["ada"](DIM, scale=c, slope=k, eps=0.0)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(500, DIM, generator=generator, dtype=torch.float64)
    z = norm(v)
    phi = z / NORMS["layer-simple"](DIM, eps=0.0)(v)
    torch.testing.assert_close(phi.mean(-1), torch.full_like(v[:, 0], c), rtol=1e-8, atol=0)
    torch.testing.assert_close(z.mean(-1), torch.full_like(v[:, 0], -c * k), **EXACT)


# Xiong et al. 2020, arXiv:2002.04745


def last_gradient(placement, depth, seed):
    """Mean over target positions of the norm of the gradient of the decoder's last ``fc2.weight``.

    Each position has its own loss: that gradient is the outer product of what enters fc2 and of what comes back
    to its output there, for in the last layer no later sub-layer mixes positions.
    """
    model = model_of(
        *("--skip-type", "plain", "--norm-placement", placement), layers=(depth, depth), width=128, seed=seed
    )
    fc2, found = model.decoder.layers[-1].fc2, {}

    def keep(module, inputs, output):
        found["entered"] = inputs[0].detach()
        output.register_hook(lambda gradient: found.update(back=gradient))

    fc2.register_forward_hook(keep)
    *source_and_shifted, target = tokens(seed, sentences=8, length=8)
    logits, _ = model(*source_and_shifted)
    F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum").backward()
    outer = torch.einsum("tbo,tbi->oi", found["back"], found["entered"])
    torch.testing.assert_close(outer, fc2.weight.grad, rtol=1e-4, atol=1e-4)  # float32
    return (found["back"].norm(dim=-1) * found["entered"].norm(dim=-1)).mean().log().item()


@pytest.mark.parametrize(("placement", "expected"), [("post", 0.0), ("pre", -0.5)])
def test_last_gradient_is_flat_in_depth_under_post_and_falls_under_pre(placement, expected):
    """Xiong et al., Theorem 1 and its measurement at initialisation: Post-LN flat, Pre-LN as 1/√layers.

    Ten seeds, 6-6 to 14-14 layers. Measured slopes of log norm against log layers, with their standard errors
    over seeds: 0.03 ± 0.025 and −0.52 ± 0.025; the tolerance 0.1 is four of these and a fifth of what
    distinguishes the two. One gradient for each position: in that of a whole batch the random targets cancel
    more or less by chance, and ten seeds leave a standard error above 0.1.
    """
    depths = (6, 10, 14)
    norms = [sum(last_gradient(placement, depth, seed) for seed in range(10)) / 10 for depth in depths]
    assert slope([math.log(depth) for depth in depths], norms) == pytest.approx(expected, abs=0.1)


LEMMA_DIM, LEMMA_LAYERS, LEMMA_DRAWS = 64, 6, 300


def squared_sums(placement, x):
    """``‖·‖²/d`` of each layer's last sum under Lemma 2's assumptions: (draws, layers), means over tokens.

    One head, W_Q = W_K = 0, W_V and both of the feed-forward from N(0, 1/d), no W_O, no biases.
    """
    model = model_of(
        *("--skip-type", "plain", "--norm-placement", placement, "--activation-fn", "relu"),
        *("--encoder-attention-heads", "1"),
        layers=(LEMMA_LAYERS, 1),
        width=LEMMA_DIM,
        hidden=LEMMA_DIM,
    )
    layers = model.encoder.double().layers
    sums = []
    for layer in layers:
        layer.final_layer_norm.skip.register_forward_hook(lambda module, inputs, output: sums.append(output))
        for name, parameter in layer.named_parameters():
            if "layer_norm" not in name:
                parameter.zero_()
        torch.nn.init.eye_(layer.self_attn.out_proj.weight)

    torch.manual_seed(0)
    draws = []
    for _ in range(LEMMA_DRAWS):
        sums.clear()
        stream = x
        for layer in layers:
            for linear in (layer.self_attn.v_proj, layer.fc1, layer.fc2):
                linear.weight.normal_(std=LEMMA_DIM**-0.5)
            stream = layer(stream, None)
        draws.append(torch.stack([s.square().sum(-1).mean() / LEMMA_DIM for s in sums]))
    return torch.stack(draws)


def lemma_inputs(length):
    """Tokens with ``‖x‖² = d`` and mean 0: (length, 1, d)."""
    x = torch.randn(length, 1, LEMMA_DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return F.layer_norm(x, [LEMMA_DIM], eps=0.0)


def expectation(draws):
    """Mean and four standard errors of each layer, these small enough to tell the bounds apart."""
    mean, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    assert (4 * error < 0.08 * mean).all()
    return mean, 4 * error


@torch.no_grad()
def test_post_sums_have_one_and_a_half_times_the_dimension():
    """Xiong et al., Lemma 2: under Post-LN ``E‖x^{post,5}‖² = 3d/2`` in every layer.

    Estimated over draws of the weights, to four standard errors (at most 0.06).
    """
    mean, tolerance = expectation(squared_sums("post", lemma_inputs(4)))
    assert ((mean - 1.5).abs() <= tolerance).all()


@torch.no_grad()
def test_pre_sums_grow_linearly_with_the_layer():
    """Xiong et al., Lemma 2: under Pre-LN ``(1 + l/2) d ≤ E‖x_l‖² ≤ (1 + 3l/2) d``.

    A single token attends to itself alone and reaches the upper bound; two opposite ones cancel in the first
    layer's attention and there reach the lower. Estimated as above.
    """
    layer = torch.arange(1, LEMMA_LAYERS + 1)
    lower, upper = 1 + layer / 2, 1 + 3 * layer / 2
    mean, tolerance = expectation(squared_sums("pre", lemma_inputs(6)))
    assert (mean >= lower - tolerance).all()
    assert (mean <= upper - tolerance).all()

    one = lemma_inputs(1)
    mean, tolerance = expectation(squared_sums("pre", one))
    assert ((mean - upper).abs() <= tolerance).all()

    mean, tolerance = expectation(squared_sums("pre", torch.cat((one, -one))))
    assert abs(mean[0] - lower[0]) <= tolerance[0]


def test_jacobian_of_layer_norm_has_norm_root_d_over_the_length_of_x():
    """Xiong et al., Lemma 3: ``‖J_LN(x)‖₂ = O(√d/‖x‖₂)``; for centred x and eps 0 it is that very number."""
    norm = NORMS["layer"](LEMMA_DIM).double()
    norm.eps = 0.0
    for scale in (0.1, 1.0, 30.0):
        x = scale * lemma_inputs(1).flatten()
        jacobian = torch.autograd.functional.jacobian(norm, x)
        torch.testing.assert_close(
            torch.linalg.matrix_norm(jacobian, 2), LEMMA_DIM**0.5 / x.norm(), rtol=1e-9, atol=0
        )


# Wang et al. 2022 (DeepNorm), arXiv:2203.00555


@pytest.mark.parametrize(
    ("layers", "encoder", "decoder"),
    [
        ((6, 6), (1.417938, 0.496989), (2.059767, 0.343295)),
        ((18, 6), (1.866112, 0.377630), (2.059767, 0.343295)),  # 0.81 · 629856^(1/16)
        ((100, 100), (3.415742, 0.206310), (4.161791, 0.169904)),  # 0.81 · 10^(5/8) and 300^(1/4)
        ((6, 0), (1.861210, 0.379918), None),  # 12^(1/4) and 48^(−1/4)
        ((0, 12), None, (2.213364, 0.319472)),  # 24^(1/4) and 96^(−1/4)
        ((0, 0), None, None),
    ],
)
def test_deepnorm_constants_are_those_of_the_papers_table(layers, encoder, decoder):
    """DeepNorm paper, figure 2: α and β by depth; the numbers come from repeated square roots."""
    constants = deepnorm_constants(*layers)
    expected = {"encoder": encoder, "decoder": decoder}
    assert constants.keys() == {side for side, pair in expected.items() if pair}
    for side, pair in constants.items():
        assert pair == pytest.approx(expected[side], abs=1e-6)


def test_deepnorm_scales_x_by_alpha_and_initialises_f_with_gain_beta():
    """DeepNorm paper, figure 2: Xavier normal, gain β for v, out, fc1, fc2 and gain 1 for q and k.

    Each matrix has at least 2¹⁶ entries, so the relative standard error of its deviation is 1/√2¹⁷ = 0.28 %;
    the tolerance is four of these. A uniform draw of that deviation would end at 1.73 deviations.
    """
    model = model_of("--skip-type", "deepnorm", layers=(3, 2), width=256)
    # N⁴M = 162: 0.81 · 162^(1/16), 0.87 · 162^(−1/16); 6^(1/4), 24^(−1/4)
    constants = {"encoder": (1.113217, 0.633030), "decoder": (1.565085, 0.451801)}
    seen = set()
    for side, (alpha, beta) in constants.items():
        for layer in getattr(model, side).layers:
            for name, module in layer.named_modules():
                kind = name.split(".")[-1]
                if kind == "skip":
                    assert module.scale == pytest.approx(alpha, abs=1e-6)
                if not isinstance(module, torch.nn.Linear):
                    continue
                gain = 1.0 if kind in ("q_proj", "k_proj") else beta
                deviation = gain * (2 / (module.in_features + module.out_features)) ** 0.5
                entries = module.weight.detach()
                assert entries.std().item() == pytest.approx(deviation, rel=0.011), (side, name)
                assert entries.abs().max() > 3 * deviation
                seen.add((side, name))
    assert len(seen) == 6 + 10  # each projection of both kinds of layer


def first_update(skip, depth, seed, rate=1e-3):
    """Mean change of a position's logits by one step of SGD on the weights of every F, over the rate."""
    model = model_of("--skip-type", skip, layers=(depth, depth), seed=seed).double()
    *source_and_shifted, target = tokens(seed, sentences=4, length=8)
    before, _ = model(*source_and_shifted)
    F.cross_entropy(before.flatten(0, 1), target.flatten()).backward()
    with torch.no_grad():
        for layer in (*model.encoder.layers, *model.decoder.layers):
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    module.weight -= rate * module.weight.grad
        after, _ = model(*source_and_shifted)
    return (after - before).norm(dim=-1).mean().item() / rate


def test_deepnorm_bounds_the_first_update():
    """DeepNorm paper, its theorem: a step of SGD changes the output by O(rate), whatever the depth.

    The same batch and rate at all depths. Measured over the rate, means of three seeds: 2.9, 2.1, 3.3, 3.5 from
    6-6 to 100-100 layers, seeds about 2 apart; Post-LN 147, 397, 2300 from 6-6 to 54-54, where single seeds
    grow 4 to 30 times. The theorem is about the weights of F, and so is this step: neither α nor β shrinks the
    effect of a norm's gain and bias, which adds up over the layers.
    """
    deep = [sum(first_update("deepnorm", depth, seed) for seed in range(3)) / 3 for depth in (6, 18, 50, 100)]
    assert max(deep) < 2.5 * min(deep)
    assert max(deep) < 8

    post = [sum(first_update("plain", depth, seed) for seed in range(3)) / 3 for depth in (6, 18, 54)]
    assert post[0] > 10 * max(deep)
    assert post[1] > 1.5 * post[0]
    assert post[2] > 5 * post[0]


# Liu et al. 2020, arXiv:2105.07205: the expanded skip λx + F(x)


def through(side, layers, x):
    """The stream after each layer, the input first; the decoder reads a random encoder output."""
    streams = [x]
    memory = torch.randn(5, x.size(1), x.size(2), generator=torch.Generator().manual_seed(9)).to(x)
    for layer in layers:
        out = layer(streams[-1], None) if side == "encoder" else layer(streams[-1], memory)[0]
        streams.append(out)
    return streams


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_scale_alone_multiplies_the_gradient_once_a_sub_layer(side, scale):
    """rSkip paper on xSkip without a norm: the gradient of n sub-layers holds the factor λⁿ.

    Where F is zero nothing else remains, and for powers of two it is so to the last bit.
    """
    model = model_of(
        "--skip-type", "expanded", "--skip-scale", str(scale), "--skip-norm", "none", layers=(4, 4)
    )
    layers = getattr(model.double(), side).layers
    for name, parameter in layers.named_parameters():
        if "out_proj" in name or "fc2" in name:
            torch.nn.init.zeros_(parameter)
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 7, 2, 32, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(through(side, layers, x)[-1], x, g)
    n = {"encoder": 2, "decoder": 3}[side] * 4
    assert torch.equal(gradient, scale**n * g)


def gradient_slope(scale, norm, seed):
    """Growth of the log gradient norm for each sub-layer further from the input, in a fresh encoder."""
    model = model_of(
        *("--skip-type", "expanded", "--skip-scale", str(scale), "--skip-norm", norm),
        layers=(12, 1),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    x, g = torch.randn(2, 8, 4, 32, generator=generator, dtype=torch.float64)
    streams = through("encoder", model.encoder.double().layers, x.requires_grad_())
    norms = [gradient.norm().log().item() for gradient in torch.autograd.grad(streams[-1], streams, g)]
    return -slope([2.0 * layer for layer in range(len(norms))], norms)


def test_scale_explodes_or_vanishes_gradients_unless_normalised():
    """rSkip paper: xSkip without a norm malforms the gradient with depth, xSkip+LN does not.

    Measured growth towards the input for each sub-layer, 24 of them, six seeds: without a norm −0.42 to −0.35,
    0.08 to 0.09 and 0.75 to 0.83 for λ = 0.5, 1, 2, that is log λ and what F adds (½ log(λ² + 0.18) gives −0.42,
    0.08, 0.72); with LN −0.06 to 0.01 for all three.
    """
    for seed in range(6):
        bare = [gradient_slope(scale, "none", seed) for scale in (0.5, 1.0, 2.0)]
        normed = [gradient_slope(scale, "layer", seed) for scale in (0.5, 1.0, 2.0)]
        assert -0.55 < bare[0] < -0.25
        assert 0 < bare[1] < 0.2
        assert 0.6 < bare[2] < 1.1
        assert all(growth > math.log(scale) for growth, scale in zip(bare, (0.5, 1.0, 2.0), strict=True))
        for without, with_norm in zip(bare, normed, strict=True):
            assert abs(with_norm) < min(abs(without), 0.08)
