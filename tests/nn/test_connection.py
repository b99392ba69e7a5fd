"""Every connection against an independent float64 oracle, forward and backward."""

import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn import NORMS, PLACEMENTS, SKIPS, ConnectionConfig, build_connection
from skipln_fairseq.nn.skip.streams import Streams
from tests import oracles
from tests.support.build import Leave, wiring

DIM = 6
PACKAGE = Path(__file__).parents[2] / "skipln_fairseq"


def randomised(config, dtype=torch.float64, dim=DIM):
    """A connection whose norm parameters are not the identity ones it starts with."""
    generator = torch.Generator().manual_seed(3)
    connection = build_connection(dim, config).to(torch.float64)
    with torch.no_grad():
        for parameter in connection.parameters():
            parameter.copy_(1 + 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return connection.to(dtype)


def inputs(dim=DIM, seed=0):
    generator = torch.Generator().manual_seed(seed)
    f_x = torch.randn(2, 3, dim, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 3, dim, generator=generator, dtype=torch.float64)
    return f_x, x


def oracle_norms(connection):
    """The numpy norms of a recursive connection, in the order in which they are applied."""
    modules = [*connection.skip.norms, connection]
    return [
        partial(oracles.layer_norm, weight=m.weight.detach().numpy(), bias=m.bias.detach().numpy())
        for m in modules
    ]


POST = {
    "plain": (ConnectionConfig(), lambda c, f, x: oracles.plain(x, f, oracle_norm(c))),
    "plain, no norm": (ConnectionConfig(norm="none"), lambda c, f, x: oracles.plain(x, f, oracles.no_norm)),
}
for scale in (-1.0, 0.0, 0.5, 1.0, 2.0):
    POST[f"xSkip {scale}"] = (
        wiring("expanded", "none", scale=scale),
        lambda c, f, x, scale=scale: oracles.expanded(x, f, oracles.no_norm, scale),
    )
    POST[f"xSkip+LN {scale}"] = (
        wiring("expanded", scale=scale),
        lambda c, f, x, scale=scale: oracles.expanded(x, f, oracle_norm(c), scale),
    )
for order in range(1, 7):
    for share in (False, True):
        POST[f"rSkip+LN {order}{' shared' if share else ''}"] = (
            wiring("recursive", order=order, share=share),
            lambda c, f, x: oracles.recursive(x, f, oracle_norms(c)),
        )


def oracle_norm(connection):
    weight, bias = connection.weight.detach().numpy(), connection.bias.detach().numpy()
    return partial(oracles.layer_norm, weight=weight, bias=bias)


@pytest.mark.parametrize("name", POST)
def test_leave_equals_the_float64_oracle(name):
    config, oracle = POST[name]
    connection, (f_x, x) = randomised(config), inputs()
    expected = oracle(connection, f_x.numpy(), x.numpy())
    np.testing.assert_allclose(connection.leave(f_x, x).detach().numpy(), expected, rtol=0, atol=1e-13)
    assert connection.enter(x) is x


@pytest.mark.parametrize("name", POST)
def test_gradients_of_inputs_and_parameters(name):
    connection = randomised(POST[name][0])
    parameters = dict(connection.named_parameters())
    f_x, x = (t.requires_grad_() for t in inputs())

    def leave(f_x, x, *values):
        return torch.func.functional_call(Leave(connection), dict(zip(names, values, strict=True)), (f_x, x))

    names = [f"connection.{name}" for name in parameters]
    assert torch.autograd.gradcheck(leave, (f_x, x, *parameters.values()), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", POST)
def test_lower_precision_stays_within_a_bound_of_float64(name, dtype):
    """Each of at most 6 steps rounds sum, norm and affine: 4 units of rounding a step suffice."""
    dim = 64
    config = POST[name][0]
    f_x, x = (t.to(dtype) for t in inputs(dim))
    low = randomised(config, dtype, dim)
    exact = randomised(config, dtype, dim).to(torch.float64)
    expected = exact.leave(f_x.double(), x.double())
    steps = dict(config.options).get("order", 1)
    bound = 4 * steps * torch.finfo(dtype).eps * expected.abs().max()
    assert (low.leave(f_x, x).double() - expected).abs().max() <= bound


def test_pre_normalises_what_enters_and_leaves_the_sum_alone():
    connection, (f_x, x) = randomised(ConnectionConfig(placement="pre")), inputs()
    expected = oracle_norm(connection)(x.numpy())
    np.testing.assert_allclose(connection.enter(x).detach().numpy(), expected, rtol=0, atol=1e-13)
    assert torch.equal(connection.leave(f_x, x), x + f_x)


def test_recursion_of_order_one_is_the_expanded_skip_of_scale_one_is_the_plain_skip():
    f_x, x = inputs()
    plain, expanded, recursive = (
        randomised(wiring(skip, scale=1.0, order=1)).leave(f_x, x)
        for skip in ("plain", "expanded", "recursive")
    )
    assert torch.equal(plain, expanded)
    assert torch.equal(plain, recursive)


def test_fresh_recursion_of_order_two_scales_x_by_one_plus_the_deviation():
    """LN(x + LN(x + F)) = LN((1 + σ₁)x + F) with unit weights, up to eps (which is 0 here)."""
    f_x, x = inputs()
    connection = build_connection(DIM, wiring("recursive", order=2)).double()
    for norm in (connection, connection.skip.norms[0]):
        norm.eps = 0.0
    sigma = (x + f_x).std(-1, correction=0, keepdim=True)
    expected = nn.functional.layer_norm((1 + sigma) * x + f_x, (DIM,), eps=0.0)
    torch.testing.assert_close(connection.leave(f_x, x), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", range(1, 7))
def test_ratio_of_x_to_f_grows_by_the_product_of_deviations_over_weights(order):
    """r₁ = 1, r_{k+1} = r_k + ∏_{j≤k} σ_j/w_j: the ratio of the coefficients of x and F(x)
    inside the last norm, with every norm's statistics held constant."""
    f_x, x = inputs()
    connection = randomised(wiring("recursive", order=order))
    norms = connection.skip.norms

    def held(f_x, x, statistics):
        y = f_x
        for norm, (mean, deviation) in zip(norms, statistics, strict=True):
            y = norm.weight * (x + y - mean) / deviation + norm.bias
        return x + y

    statistics, y, ratio, product = [], f_x, torch.ones_like(x), torch.ones_like(x)
    for norm in norms:
        v = x + y
        deviation = (v.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        statistics.append((v.mean(-1, keepdim=True), deviation))
        product = product * deviation / norm.weight
        ratio = ratio + product
        y = norm(v)
    torch.testing.assert_close(held(f_x, x, statistics), connection.skip(f_x, x))

    f_x.requires_grad_(), x.requires_grad_()
    d_f, d_x = torch.autograd.grad(held(f_x, x, statistics).sum(), (f_x, x))
    torch.testing.assert_close(d_x / d_f, ratio.detach(), rtol=1e-12, atol=0)


def test_only_the_normalised_expanded_skip_ignores_a_common_factor():
    f_x, x = inputs()
    normalised = build_connection(DIM, wiring("expanded", scale=2.0)).double()
    normalised.eps = 0.0
    torch.testing.assert_close(normalised.leave(3 * f_x, 3 * x), normalised.leave(f_x, x))
    bare = build_connection(DIM, wiring("expanded", "none", scale=2.0))
    torch.testing.assert_close(bare.leave(3 * f_x, 3 * x), 3 * bare.leave(f_x, x))


def test_shared_norms_are_one_set_of_parameters_in_separate_modules():
    config = wiring("recursive", order=4, share=True)
    connection = build_connection(DIM, config)
    assert len(list(connection.parameters())) == 2
    assert len(set(map(id, [connection, *connection.skip.norms]))) == 4
    assert all(norm.weight is connection.weight for norm in connection.skip.norms)


def test_recursion_evaluates_nothing_of_f_again_and_one_norm_a_step():
    connection, calls = randomised(wiring("recursive", order=5)), []
    for norm in (connection, *connection.skip.norms):
        norm.register_forward_hook(lambda module, *_: calls.append(module))
    connection.leave(*inputs())
    assert calls == [*connection.skip.norms, connection]


# What makes streams of the sum at once leaves no place for a norm after it.
BUILT = [
    pair
    for pair in product(SKIPS, PLACEMENTS)
    if PLACEMENTS[pair[1]].ends_with_norm or not issubclass(SKIPS[pair[0]], Streams)
]


@pytest.mark.parametrize(("skip", "placement"), BUILT)
@pytest.mark.parametrize("norm", NORMS)
def test_every_registered_name_builds_and_runs(skip, norm, placement):
    """Also where the combination is in no table."""
    config = wiring(skip, norm, placement, scale=0.5, order=2, fractions=2)
    connection, (f_x, x) = build_connection(DIM, config).double(), inputs()
    assert connection.leave(connection.enter(f_x), x).shape[:-1] == x.shape[:-1]


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        build_connection(DIM, ConnectionConfig(norm="nonesuch"))


def test_nn_is_pure_torch():
    code = "import sys; sys.modules['fairseq'] = None; sys.path.insert(0, sys.argv[1]); import nn"
    subprocess.run([sys.executable, "-c", code, str(PACKAGE)], check=True)
