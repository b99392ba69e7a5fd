"""What Xiong et al. 2020 (arXiv:2002.04745) prove and measure of Post-LN and Pre-LN in a fresh model."""

import math

import pytest
import torch
import torch.nn.functional as F

from skipln_fairseq.nn import NORMS
from tests.support.papers import model_of, slope, tokens


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
