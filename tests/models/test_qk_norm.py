"""Norms of queries and keys against their oracles, and in whole models."""

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.models import resume
from skipln_fairseq.models.family import example
from skipln_fairseq.nn import QK_NORMS
from skipln_fairseq.nn.qk_norm.unit import ScaledUnit
from tests.support.build import assert_padding_never_leaks, batch, build, parse

HEADS, DIM = 3, 12
OPTIONS = {"unit": {"length": 30}}
FLAGS = {name: example(QK_NORMS[name].declaration).split() for name in QK_NORMS}


def numbers(linear):
    return {name: p.detach().numpy() for name, p in getattr(linear, "norm", nn.Identity()).named_parameters()}


def test_each_has_an_oracle_and_the_reverse():
    folder = import_module("tests.oracles.qk_norm").__path__
    assert {module.name for module in iter_modules(folder)} == {name.replace("-", "_") for name in QK_NORMS}


def test_a_vector_of_zeros_is_finite_in_half_precision():
    for norm in QK_NORMS["unit"](30).norms(DIM):
        assert norm.half()(torch.zeros(2, DIM).half()).eq(0).all()


@pytest.mark.parametrize("name", QK_NORMS)
def test_the_products_and_values_equal_the_oracle(name):
    torch.manual_seed(1)
    query, key, value = (nn.Linear(DIM, DIM) for _ in range(3))
    QK_NORMS[name](**OPTIONS.get(name, {})).apply((query, key, value), HEADS)
    x, y = torch.randn(2, 5, DIM).double()
    plain = []
    for linear, v in ((query.double(), x), (key.double(), y), (value.double(), y)):
        for norm in linear.children():
            for parameter in norm.parameters():
                parameter.data.mul_(0.5 + torch.rand_like(parameter))
        projected = v.numpy() @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        plain.append(projected.reshape(5, HEADS, -1))
    q, k, values = (
        linear(v).detach().unflatten(-1, (HEADS, -1)).numpy()
        for linear, v in ((query, x), (key, y), (value, y))
    )
    oracle = import_module(f"tests.oracles.qk_norm.{name.replace('-', '_')}")
    normed = getattr(oracle, "values", lambda v, numbers: v)
    for head in range(HEADS):
        expected = oracle.logits(plain[0][:, head], plain[1][:, head], numbers(query), numbers(key))
        np.testing.assert_allclose(
            values[:, head], normed(plain[2][:, head], numbers(value)), rtol=1e-10, atol=1e-12
        )
        found = q[:, head] @ k[:, head].T / (DIM / HEADS) ** 0.5
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_first_scale_is_that_of_the_paper():
    model = build("transformer_rskip", "--qk-norm", "unit", "--qk-norm-length", "30")
    scales = [m.scale.item() for m in model.modules() if isinstance(m, ScaledUnit)]
    assert scales == [pytest.approx(9.7649, abs=1e-4)] * (2 + 2 * 2)  # log₂(900 − 30)


@pytest.mark.parametrize("name", sorted(set(QK_NORMS) - {"none"}))
@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_a_model_decodes_step_by_step_scripts_and_learns_its_norms(name, kernels):
    torch.manual_seed(0)
    model = build("transformer_rskip", *FLAGS[name], "--dropout", "0", "--kernels", kernels)
    source, lengths, target = batch()
    model(source, lengths, target)[0].logsumexp(-1).sum().backward()
    norms = [p for key, p in model.named_parameters() if "_proj.norm." in key]
    assert norms
    assert all(p.grad.abs().max() > 0 for p in norms)
    model.eval()
    with torch.no_grad():
        full = model(source, lengths, target)[0]
        encoder_out, state = model.encoder(source, lengths), {}
        for end in range(1, target.size(1) + 1):
            step = model.decoder(target[:, :end], encoder_out=encoder_out, incremental_state=state)[0]
            real = target[:, end - 1].ne(1)
            torch.testing.assert_close(step[real, -1], full[real, end - 1], rtol=1e-4, atol=1e-5)
        scripted = torch.jit.script(model)(source, lengths, target)[0]
        torch.testing.assert_close(scripted, full, rtol=1e-4, atol=1e-5)
        assert_padding_never_leaks(model, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(QK_NORMS) - {"none"}))
def test_fast_and_reference_attention_agree(name):
    models = [
        build("transformer_rskip", *FLAGS[name], "--kernels", kernels).eval()
        for kernels in ("fast", "reference")
    ]
    fast, reference = (model(*batch())[0] for model in models)
    torch.testing.assert_close(fast, reference, rtol=1e-4, atol=1e-5)
    assert not torch.equal(fast, build("transformer_rskip").eval()(*batch())[0])


def test_a_side_alone_and_what_a_resumed_run_is_told():
    args = parse("transformer_rskip", "--decoder-qk-norm", "rms")
    (found,) = resume._changes(parse("transformer_rskip"), args).connections
    assert found == "decoder norm of queries, keys and values none → rms"
    model = build("transformer_rskip", "--decoder-qk-norm", "rms")
    sides = {key.partition(".")[0] for key, _ in model.named_parameters() if "q_proj.norm" in key}
    assert sides == {"decoder"}
