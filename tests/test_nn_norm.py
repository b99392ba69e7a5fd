"""Every norm per token against a float64 oracle: forward, and the backward that its paper has."""

from functools import partial

import numpy as np
import pytest
import torch

from skipln_fairseq.nn import NORMS, norms_of
from tests import oracles

DIM = 7
PLAIN = ("weight", "bias")
ORACLES = {
    "layer": (oracles.layer_norm, oracles.layer_norm_backward, PLAIN),
    "layer-simple": (oracles.simple, oracles.layer_norm_backward, ()),
    "detach": (oracles.simple, oracles.detach_backward, ()),
    "detach-mean": (oracles.simple, oracles.detach_mean_backward, ()),
    "detach-deviation": (oracles.simple, oracles.detach_deviation_backward, ()),
    "ada": (oracles.ada, oracles.ada_backward, ("scale", "slope")),
    "rms": (oracles.rms, oracles.rms_backward, ("weight",)),
    "scale": (oracles.scale, oracles.scale_backward, ("weight",)),
    "dyt": (oracles.dyt, oracles.dyt_backward, ("alpha", "weight", "bias")),
    "none": (oracles.no_norm, oracles.no_norm_backward, ()),
}
# their backward is not the forward's derivative, by intention
DETACHED = {"detach", "detach-mean", "detach-deviation", "ada"}


def randomised(name, dim=DIM):
    """A norm whose parameters are not the ones it starts with."""
    generator = torch.Generator().manual_seed(3)
    norm = NORMS[name](dim, **({"scale": 1.3, "slope": 0.2} if name == "ada" else {})).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(1 + 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return norm


def inputs(dim=DIM, scale=2.0):
    generator = torch.Generator().manual_seed(1)
    v, g = torch.randn(2, 4, 3, dim, generator=generator, dtype=torch.float64)
    return scale * v + 0.5, g


def numbers(norm, names):
    values = (getattr(norm, name) for name in names)
    return [v.detach().numpy() if torch.is_tensor(v) else v for v in values]


def test_every_norm_per_token_has_an_oracle():
    assert set(ORACLES) == set(norms_of(("token", "none")))


@pytest.mark.parametrize("name", ORACLES)
def test_forward_equals_the_oracle(name):
    forward, _, names = ORACLES[name]
    norm, (v, _) = randomised(name), inputs()
    expected = forward(v.numpy(), *numbers(norm, names))
    np.testing.assert_allclose(norm(v).detach().numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ORACLES)
def test_backward_equals_the_papers(name):
    _, backward, names = ORACLES[name]
    norm, (v, g) = randomised(name), inputs()
    norm(v.requires_grad_()).backward(g)
    expected = backward(v.detach().numpy(), g.numpy(), *numbers(norm, names))
    np.testing.assert_allclose(v.grad.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", sorted(ORACLES.keys() - DETACHED))
def test_gradients_are_the_forwards_derivative(name):
    norm, (v, _) = randomised(name), inputs()
    parameters = dict(norm.named_parameters())

    def call(v, *values):
        return torch.func.functional_call(norm, dict(zip(parameters, values, strict=True)), (v,))

    assert torch.autograd.gradcheck(call, (v.requires_grad_(), *parameters.values()))


@pytest.mark.parametrize("name", sorted(DETACHED))
def test_detached_norms_differ_from_the_forwards_derivative(name):
    norm, (v, _) = randomised(name), inputs()
    assert not torch.autograd.gradcheck(norm, (v.requires_grad_(),), raise_exception=False)


@pytest.mark.parametrize("name", ORACLES)
def test_a_token_depends_on_itself_alone(name):
    norm, (v, _) = randomised(name), inputs()
    padding = torch.zeros(v.shape[:-1], dtype=torch.bool)
    padding[0, 1] = True
    changed = v.clone()
    changed[0, 1] += 5
    before, after = norm(v, padding), norm(changed, padding)
    assert torch.equal(before[~padding], after[~padding])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ORACLES)
def test_lower_precision_stays_within_a_bound_of_float64(name, dtype):
    """Statistics over 64 features and an affine map: 16 units of rounding at inputs of order 10."""
    v = inputs(64, scale=5.0)[0].to(dtype)
    norm = randomised(name, 64).to(dtype)
    expected = randomised(name, 64).to(dtype).double()(v.double())
    bound = 16 * torch.finfo(dtype).eps * expected.abs().max()
    assert (norm(v).double() - expected).abs().max() <= bound


@pytest.mark.parametrize("name", ORACLES)
def test_a_token_of_zeros_is_finite(name):
    v = torch.zeros(2, DIM, requires_grad=True)
    out = NORMS[name](DIM)(v)
    out.sum().backward()
    assert out.isfinite().all()
    assert v.grad.isfinite().all()


def test_scale_norm_starts_at_the_root_of_the_dimension_and_dyt_at_one_half():
    assert NORMS["scale"](9).weight.item() == 3.0
    assert NORMS["dyt"](9).alpha.item() == 0.5


def test_adanorm_scales_large_features_down():
    """C(1 − ky): less for large y, more for negative ones; Chebyshev's |y| < 1/k keeps it positive."""
    v = torch.linspace(-2, 2, 9, dtype=torch.float64)
    y, z = oracles.simple(v.numpy()), NORMS["ada"](9)(v).numpy()
    assert np.all(np.diff(z / np.where(y == 0, 1, y), axis=-1)[[0, 1, 5, 6]] < 0)
    assert partial(oracles.ada, scale=1.0, slope=0.1)(v.numpy()) == pytest.approx(z, abs=1e-12)
