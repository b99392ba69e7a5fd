"""Products in C against torch's in float64 and NumPy's of whole numbers, compiled as for each kind of processor."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn.kernels.decode import Product, kind, library, product
from tests.support.processors import PROCESSORS, compiled_as_for, why_not

FORMS = ("fp32", "bf16", "int8")
ROWS = (
    *range(1, 14),
    17,
    33,
    70,
)  # of every number that are multiplied at once, and shared out in several ways


@pytest.fixture(scope="module", params=PROCESSORS)
def processor(request, tmp_path_factory):
    """Each one that this machine can be, with its kernels."""
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    with compiled_as_for(request.param, tmp_path_factory.mktemp("cache")):
        yield request.param


def case(rows, inputs, outputs):
    """Rows, two maps that become one product, what they map to and how large the sums of magnitudes are."""
    torch.manual_seed(rows)
    linears = [nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)]
    x = torch.randn(rows, 1, inputs)
    weight = torch.cat([one.weight for one in linears]).double()
    bias = torch.cat((linears[0].bias, torch.zeros(outputs))).double()
    return x, linears, x.double() @ weight.t() + bias, x.double().abs() @ weight.abs().t() + bias.abs()


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 5), (32, 32), (51, 37), (256, 100)])
@torch.no_grad()
def test_floats_are_multiplied(inputs, outputs, processor, torch_threads):
    """Within roundings of |x| |w|; of two parts 2⁻¹⁵, of bfloat16 2⁻⁷."""
    for rows in ROWS:
        torch_threads(1 + rows % 2)
        x, linears, expected, size = case(rows, inputs, outputs)
        for form, bound in (("fp32", 2**-15 if processor == "amx" else 1e-6), ("bf16", 2**-7)):
            rectified = rows % 3 == 0
            found = product(x, Product(linears, form, rectified)).double()
            wanted = expected.clamp(min=0) if rectified else expected
            assert ((found - wanted).abs() <= bound * size).all()


def most():
    """Of a weight of whole numbers: 64 where two products are summed in 16 bits."""
    return 64 if kind() in ("avx2", "avx512") else 127


def quantised(values, to=127):
    """Whole numbers up to ``to`` in magnitude and the scale of each row, as float32 has them."""
    values = values.numpy()
    scales = np.abs(values).max(1, keepdims=True) / np.float32(to)
    return np.rint(values * (np.float32(1) / scales)).astype(np.int64), scales


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (32, 32), (51, 37), (1024, 100)])
@pytest.mark.parametrize("extreme", [False, True])
@torch.no_grad()
def test_sums_of_whole_numbers_are_exact(inputs, outputs, extreme, processor, torch_threads):
    """Also where all are the largest, which 16 bits would not hold."""
    for rows in ROWS:
        torch_threads(1 + rows % 2)
        torch.manual_seed(rows)
        linear, x = nn.Linear(inputs, outputs, bias=False), torch.randn(rows, inputs)
        if extreme:
            x, linear.weight.data = x.sign(), linear.weight.sign()
        (wide, x_scales), (weight, weight_scales) = quantised(x), quantised(linear.weight, most())
        expected = (wide @ weight.T).astype(np.float32) * x_scales * weight_scales.T
        found = product(x, Product([linear], "int8")).numpy()
        np.testing.assert_allclose(found, expected, rtol=3e-7, atol=0)


@torch.no_grad()
def test_eight_bits_are_near_and_have_biases(processor):
    """Half of a step, of each; a row's largest has 127 steps."""
    x, linears, expected, _ = case(20, 256, 100)
    weight = torch.cat([one.weight for one in linears]).double()
    bound = x.abs().amax(-1, keepdim=True).double() * weight.abs().sum(1) / 254
    bound = bound + x.double().abs().sum(-1, keepdim=True) * weight.abs().amax(1) / (2 * most())
    for rectified in (False, True):
        wanted = expected.clamp(min=0) if rectified else expected
        assert ((product(x, Product(linears, "int8", rectified)) - wanted).abs() <= 1.01 * bound).all()


@torch.no_grad()
def test_fewer_bits_are_farther_off(processor):
    x, linears, expected, _ = case(20, 256, 100)
    errors = [(product(x, Product(linears, form)) - expected).abs().max() for form in FORMS]
    assert 10 * errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@torch.no_grad()
def test_a_product_of_what_is_no_number_is_none(value, form, rows, processor):
    linear, x = nn.Linear(41, 20), torch.randn(rows, 41)
    x[1, 40] = value
    found = product(x, Product([linear], form))
    assert found[[0, 2]].isfinite().all()
    assert not found[1].isfinite().any()
    linear.weight[4, 3] = value
    found = product(torch.randn(rows, 41), Product([linear], form))
    assert not found[:, 4].isfinite().any()
    assert found[:, :4].isfinite().all()
    assert found[:, 5:].isfinite().all()


def test_a_negative_number_that_is_none_is_not_rectified(processor):
    for form in FORMS:
        assert product(torch.tensor([[-math.nan]]), Product([nn.Linear(1, 3)], form, True)).isnan().all()


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_nothing_is_multiplied(form, processor):
    """No rows, and rows of zeros."""
    linear = nn.Linear(9, 7)
    assert product(torch.ones(0, 9), Product([linear], form)).shape == (0, 7)
    assert torch.equal(product(torch.zeros(2, 9), Product([linear], form)), linear.bias.expand(2, 7))


def test_tiles_that_the_system_does_not_give_are_not_used(tmp_path):
    """The compiler knows them; a program has to ask the system for them."""
    reason = why_not("amx")
    if reason:
        pytest.skip(reason)
    with compiled_as_for("amx", tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_init_amx", lambda: False)
        kind.cache_clear()
        library.source.cache_clear()
        assert kind() == "avx2"
        assert product(torch.ones(1, 3), Product([nn.Linear(3, 2)], "int8")).shape == (1, 2)


def test_tiles_are_left_to_torch_as_they_were():
    """torch's own products by tiles before and after ours."""
    if kind() != "amx":
        pytest.skip("no matrix tiles")
    torch.manual_seed(1)
    x, w, linear = torch.randn(64, 64).bfloat16(), torch.randn(64, 64).bfloat16(), nn.Linear(96, 40)
    ours = Product([linear], "fp32")
    expected = x @ w
    for _ in range(3):
        product(torch.randn(7, 96), ours)
        assert torch.equal(x @ w, expected)
