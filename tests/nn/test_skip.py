"""Every skip rule and placement against an independent float64 oracle, forward and backward."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn import SKIPS, build_connection, build_end
from skipln_fairseq.nn.skip.streams import Streams
from skipln_fairseq.nn.valid import valid_norms, valid_placements
from tests import oracles
from tests.support.build import FIRST, LAST, MIDDLE, Leave, wiring

DIM = 6
SCALE = 0.7


def tensors(count, seed=0, dim=DIM):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 3, dim, generator=generator, dtype=torch.float64)


def randomise(module, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(1 + 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if name.endswith("updates"):
                buffer.fill_(3)
    return module


def made(skip, *, norm="layer", placement="post", position=FIRST, dim=DIM, **options):
    config = wiring(skip, norm, placement, **options)
    return randomise(build_connection(dim, config, **position).double())


def affine(norm):
    return {"weight": norm.weight.detach().numpy(), "bias": norm.bias.detach().numpy()}


def layer_norm(norm):
    return partial(oracles.layer_norm, **affine(norm))


def factors(connection):
    """The factors of x and F(x) inside the last norm, for the rules that have such."""
    skip = connection.skip
    return {
        "plain": lambda: (1, 1),
        "expanded": lambda: (SCALE, 1),
        "deepnorm": lambda: (0.81, 1),  # of one layer a side
        "learned": lambda: (skip.scale.detach().numpy(), 1),
        "learned vector": lambda: (skip.scale.detach().numpy(), 1),
        "admin": lambda: (2.5 + skip.shift.detach().numpy(), 1),
        "rezero": lambda: (1, skip.scale.detach().numpy()),
        "layerscale": lambda: (1, skip.scale.detach().numpy()),
    }


LINEAR = ("plain", "expanded", "deepnorm", "learned", "learned vector", "admin", "rezero", "layerscale")


def linear(name, norm):
    connection = made(name.split()[0], norm=norm, scale=SCALE, vector="vector" in name)
    if name == "admin":
        connection.skip.profile.fill_(2.5)
    return connection, factors(connection)[name]()


@pytest.mark.parametrize(
    ("name", "norm"),
    [("recursive", "layer"), *((name, norm) for name in LINEAR for norm in ("layer", "none"))],
)
def test_forward_equals_the_oracle(name, norm):
    if name == "recursive":
        connection, (f_x, x) = made(name, order=4), tensors(2)
        norms = [layer_norm(n) for n in (*connection.skip.norms, connection)]
        expected = oracles.recursive(x.numpy(), f_x.numpy(), norms)
    else:
        (connection, (of_x, of_f)), (f_x, x) = linear(name, norm), tensors(2)
        last = layer_norm(connection) if norm == "layer" else oracles.no_norm
        expected = last(of_x * x.numpy() + of_f * f_x.numpy())
    np.testing.assert_allclose(connection.leave(f_x, x).detach().numpy(), expected, rtol=0, atol=1e-13)
    assert connection.enter(x) is x


@pytest.mark.parametrize("name", [*LINEAR, "recursive"])
def test_backward_equals_the_oracle(name):
    f_x, x, g = tensors(3)
    if name == "recursive":
        connection = made(name, order=4)
        steps = (*connection.skip.norms, connection)
        norms = [layer_norm(n) for n in steps]
        backwards = [partial(oracles.layer_norm_backward, **affine(n)) for n in steps]
        g_x, g_f = oracles.recursive_backward(x.numpy(), f_x.numpy(), norms, backwards, g.numpy())
    else:
        connection, (of_x, of_f) = linear(name, "layer")
        total = of_x * x.numpy() + of_f * f_x.numpy()
        g_sum = oracles.layer_norm_backward(total, g.numpy(), **affine(connection))
        g_x, g_f = of_x * g_sum, of_f * g_sum
    connection.leave(f_x.requires_grad_(), x.requires_grad_()).backward(g)
    np.testing.assert_allclose(x.grad.numpy(), g_x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(f_x.grad.numpy(), g_f, rtol=0, atol=1e-13)


def test_highway_equals_the_oracle():
    connection, (f_x, x) = made("highway", norm="none"), tensors(2)
    gate = connection.skip.gate
    expected = oracles.highway(
        x.numpy(), f_x.numpy(), gate.weight.detach().numpy(), gate.bias.detach().numpy()
    )
    np.testing.assert_allclose(connection.leave(f_x, x).detach().numpy(), expected, rtol=0, atol=1e-13)
    fresh = build_connection(DIM, wiring("highway")).skip.gate
    assert fresh.bias.tolist() == [-1.0] * DIM


OPTIONS = {"scale": SCALE, "order": 3, "streams": 3, "fractions": 3, "iterations": 4}
PLACED = [(skip, place) for skip in SKIPS for place in valid_placements(skip, valid_norms(skip)[0])]


@pytest.mark.parametrize("position", [FIRST, MIDDLE, LAST], ids=["first", "middle", "last"])
@pytest.mark.parametrize(
    ("skip", "placement"), [pair for pair in PLACED if pair[0] != "gpas"]
)  # its backward is another
def test_gradients_of_inputs_and_parameters(skip, placement, position):
    """Of a stream as a layer's first sub-layer leaves it, and in the first one of x alone."""
    connection = made(skip, placement=placement, position=position, **OPTIONS)
    f_x, stream = tensors(1)[0], tensors(1, seed=1)[0]
    if position is not FIRST:
        stream = made(skip, placement=placement, **OPTIONS).leave(stream, stream).detach()
    module = Leave(connection)
    names = [name for name, _ in module.named_parameters()]

    def leave(f_x, stream, *values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(module, parameters, (f_x, stream))

    inputs = (f_x.requires_grad_(), stream.requires_grad_(), *module.parameters())
    assert torch.autograd.gradcheck(leave, inputs, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("sub_layers", [2, 3])
def test_streams_equal_the_oracle(sub_layers):
    """B2T within a layer of two and of three sub-layers, ResiDual over a stack with its end."""
    positions = (FIRST, MIDDLE, LAST) if sub_layers == 3 else (FIRST, LAST)
    x, *branches = tensors(1 + sub_layers)
    stream = x
    connections = [made("b2t", position=position) for position in positions]
    for connection, f_x in zip(connections, branches, strict=True):
        assert connection.enter(stream).shape == x.shape
        stream = connection.leave(f_x, stream)
    norm = layer_norm(connections[0])  # all are randomised alike
    expected = oracles.bottom_to_top(x.numpy(), [f.numpy() for f in branches], norm)
    np.testing.assert_allclose(stream.detach().numpy(), expected, rtol=0, atol=1e-13)

    connections = [made("dual") for _ in branches]
    end = randomise(build_end(DIM, wiring("dual", form="first")).double(), seed=4)
    stream, p = x, x.numpy()
    for connection, f_x in zip(connections, branches, strict=True):
        np.testing.assert_allclose(connection.enter(stream).detach().numpy(), p, rtol=0, atol=1e-13)
        stream, p = connection.leave(f_x, stream), norm(p + f_x.numpy())
    expected = oracles.dual(x.numpy(), [f.numpy() for f in branches], norm, layer_norm(end.norm))
    np.testing.assert_allclose(end(stream).detach().numpy(), expected, rtol=0, atol=1e-13)


def test_a_residual_stack_without_layers_left_is_its_beginning():
    """Layerdrop may drop all layers: p and d are then both x."""
    end, x = build_end(DIM, wiring("dual", form="first")).double(), tensors(1)[0]
    torch.testing.assert_close(end(x), x + nn.functional.layer_norm(x, (DIM,)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("placement", ["post", "pre", "res-post", "sandwich", "sub"])
def test_placements_equal_the_oracle(placement):
    """With F(h) = Wh: which of x, h, F(h) and the sum is normalised, and by which of the norms."""
    connection = made("expanded", placement=placement, scale=SCALE)
    linear = nn.Linear(DIM, DIM, bias=False).double()
    linear = randomise(connection.connect_projection(linear, nn.LayerNorm).double(), seed=5)
    if placement == "sandwich":
        randomise(connection.entry, seed=6)
    (x,) = tensors(1)
    weight, norm = linear.weight.detach().numpy().T, layer_norm(connection)
    expected = {
        "post": lambda x: norm(SCALE * x + x @ weight),
        "pre": lambda x: SCALE * x + norm(x) @ weight,
        "res-post": lambda x: SCALE * x + norm(x @ weight),
        "sandwich": lambda x: SCALE * x + norm(layer_norm(connection.entry)(x) @ weight),
        "sub": lambda x: SCALE * x + layer_norm(linear.norm)(norm(x)) @ weight,
    }[placement](x.numpy())
    found = connection.leave(linear(connection.enter(x)), x)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-12)


# two start at random; what has streams has its own test
@pytest.mark.parametrize(
    "skip", [s for s in SKIPS if s not in ("highway", "laurel-lr") and not issubclass(SKIPS[s], Streams)]
)
def test_what_a_rule_learns_and_where_it_starts(skip):
    """λ from 1, α from 0, s from its first value, ω's shift from 0: and nothing else is learned."""
    connection = build_connection(DIM, wiring(skip, "none", scale=0.01, vector=True, order=1))
    starts = {
        "learned": {"scale": [0.01] * DIM},
        "rezero": {"scale": [0.0]},
        "layerscale": {"scale": [0.01] * DIM},
        "admin": {"shift": [0.0] * DIM},
        "gpas": {"gate": 0.0},
        "laurel-rw": {"logits": [0.0, 0.0]},
    }.get(skip, {})
    learned = {name: parameter.tolist() for name, parameter in connection.skip.named_parameters()}
    assert learned.keys() == starts.keys()
    for name, values in starts.items():
        assert learned[name] == pytest.approx(values)


def test_the_low_rank_map_starts_with_orthonormal_rows_and_adds_nothing():
    skip, (f_x, x) = build_connection(DIM, wiring("laurel-lr", "none", rank=2)).skip, tensors(2)
    torch.testing.assert_close(skip.down @ skip.down.T, torch.eye(2), rtol=0, atol=1e-6)
    assert torch.equal(skip.double()(f_x, x), f_x + x)


def test_the_two_learned_weights_of_sum_2_are_the_plain_skip_at_first():
    (f_x, x), skip = tensors(2), build_connection(DIM, wiring("laurel-rw", "none", total=2.0)).skip
    assert torch.equal(skip.double()(f_x, x), f_x + x)


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich"])
def test_gpas_scales_the_value_and_not_the_gradient(placement):
    """Those of x and F(x) are the plain skip's; the gate's is −SiLU'(g) times what is taken away. One gate a layer."""
    first = build_connection(DIM, wiring("gpas", "layer", placement)).double()
    skip = build_connection(DIM, wiring("gpas", "layer", placement), first=first, index=1).skip
    assert skip.gate is first.skip.gate
    f_x, x, weight = (tensor.requires_grad_() for tensor in tensors(3))
    assert torch.equal(skip(f_x, x), f_x + x)
    with torch.no_grad():
        skip.gate.fill_(0.4)
    (weight.detach() * skip(f_x, x)).sum().backward()
    assert torch.equal(x.grad, weight)
    assert torch.equal(f_x.grad, weight)
    gate = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    nn.functional.silu(gate).backward()
    taken = x if placement == "post" else x + f_x
    torch.testing.assert_close(skip.gate.grad, -gate.grad * (weight * taken).sum().detach())
