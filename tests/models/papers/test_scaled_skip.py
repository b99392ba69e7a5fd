"""What Liu et al. 2020 (arXiv:2105.07205) say of the expanded skip λx + F(x) without a norm, and with one."""

import math

import pytest
import torch

from tests.support.papers import model_of, slope


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
