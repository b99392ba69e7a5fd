"""Every norm per token against a float64 oracle: forward, and the backward that its paper has."""

import inspect
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch

from skipln_fairseq.nn import NORMS, norms_of
from tests import oracles

DIM = 7
PLAIN = ("weight", "bias")
# the backward written out, for those of whom it is known; the others' is the forward's derivative
BACKWARDS = {
    "layer": (oracles.layer_norm_backward, PLAIN),
    "layer-simple": (oracles.layer_norm_backward, ()),
    "detach": (oracles.detach_backward, ()),
    "detach-mean": (oracles.detach_mean_backward, ()),
    "detach-deviation": (oracles.detach_deviation_backward, ()),
    "ada": (oracles.ada_backward, ("scale", "slope")),
    "rms": (oracles.rms_backward, ("weight",)),
    "scale": (oracles.scale_backward, ("weight",)),
    "dyt": (oracles.dyt_backward, ("alpha", "weight", "bias")),
    "none": (oracles.no_norm_backward, ()),
}
NAMES = norms_of(("token", "none"))
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


@pytest.mark.parametrize("name", NAMES)
def test_forward_equals_the_oracle(name):
    forward = import_module(f"tests.oracles.norm.{name.replace('-', '_')}").norm
    norm, (v, _) = randomised(name), inputs()
    names = list(inspect.signature(forward).parameters)[1:]
    expected = forward(v.numpy(), **dict(zip(names, numbers(norm, names), strict=True)))
    np.testing.assert_allclose(norm(v).detach().numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", BACKWARDS)
def test_backward_equals_the_papers(name):
    backward, names = BACKWARDS[name]
    norm, (v, g) = randomised(name), inputs()
    norm(v.requires_grad_()).backward(g)
    expected = backward(v.detach().numpy(), g.numpy(), *numbers(norm, names))
    np.testing.assert_allclose(v.grad.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", sorted(set(NAMES) - DETACHED))
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


@pytest.mark.parametrize("name", NAMES)
def test_a_token_depends_on_itself_alone(name):
    norm, (v, _) = randomised(name), inputs()
    padding = torch.zeros(v.shape[:-1], dtype=torch.bool)
    padding[0, 1] = True
    changed = v.clone()
    changed[0, 1] += 5
    before, after = norm(v, padding), norm(changed, padding)
    assert torch.equal(before[~padding], after[~padding])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_lower_precision_stays_within_a_bound_of_float64(name, dtype):
    """Statistics over 64 features and an affine map: 16 units of rounding at inputs of order 10."""
    v = inputs(64, scale=5.0)[0].to(dtype)
    norm = randomised(name, 64).to(dtype)
    expected = randomised(name, 64).to(dtype).double()(v.double())
    bound = 16 * torch.finfo(dtype).eps * expected.abs().max()
    assert (norm(v).double() - expected).abs().max() <= bound


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"none"}))
def test_squares_that_float16_cannot_hold_do_not_make_it_zero(name):
    v = torch.randn(4, 64, generator=torch.Generator().manual_seed(1)).mul(8000).half()
    norm = NORMS[name](64)
    torch.testing.assert_close(norm.half()(v).float(), norm.float()(v.float()), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_token_of_zeros_is_finite(name):
    v = torch.zeros(2, DIM, requires_grad=True)
    out = NORMS[name](DIM)(v)
    out.sum().backward()
    assert out.isfinite().all()
    assert v.grad.isfinite().all()


@pytest.mark.parametrize("name", ["rms-zero", "seed"])
def test_it_is_rms_norm_at_first(name):
    """Bit for bit; the gradients within rounding, which go another way."""
    (v, g), results = inputs(), []
    for norm in (NORMS["rms"](DIM), NORMS[name](DIM)):
        leaf = v.float().requires_grad_()
        y = norm(leaf)
        y.backward(g.float())
        results.append((y, leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        ("scale", {"weight": 3.0}),  # the root of the dimension
        ("dyt", {"alpha": 0.5, "weight": 1, "bias": 0}),
        ("derf", {"alpha": 0.5, "shift": 0, "weight": 1, "bias": 0}),
        ("seed", {"weight": 1, "alpha": 1, "beta": 0}),
        ("bhyt", {"gain": 2, "weight": 1}),
    ],
)
def test_what_a_norm_learns_and_where_it_starts(name, starts):
    learned = {name: parameter.unique().tolist() for name, parameter in NORMS[name](9).named_parameters()}
    assert learned == {name: [start] for name, start in starts.items()}


def test_bhyts_first_lambda_is_an_option():
    assert NORMS["bhyt"](9, start=3.0).gain.item() == 3.0


def test_adanorm_scales_large_features_down():
    """C(1 − ky): less for large y, more for negative ones; Chebyshev's |y| < 1/k keeps it positive."""
    v = torch.linspace(-2, 2, 9, dtype=torch.float64)
    y, z = oracles.simple(v.numpy()), NORMS["ada"](9)(v).numpy()
    assert np.all(np.diff(z / np.where(y == 0, 1, y), axis=-1)[[0, 1, 5, 6]] < 0)
    assert partial(oracles.ada, scale=1.0, slope=0.1)(v.numpy()) == pytest.approx(z, abs=1e-12)
