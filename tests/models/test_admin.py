"""Admin: ω measured once, in the first training step, as its authors define it."""

import math

import pytest
import torch

from skipln_fairseq.models.admin import profile
from skipln_fairseq.nn import AdminSkip
from tests.support.build import batch, build

FLAGS = ("--skip-type", "admin", "--encoder-layers", "3", "--decoder-layers", "2")


def skips(stack):
    return [module for module in stack.modules() if isinstance(module, AdminSkip)]


def record(model, inputs):
    """x and F(x) of every Admin skip of a stack in one pass without dropout, and which positions are real."""
    seen, handles = {id(model.encoder): [], id(model.decoder): []}, []
    for stack in (model.encoder, model.decoder):
        for skip in skips(stack):
            handles.append(skip.register_forward_hook(lambda m, i, o, s=stack: seen[id(s)].append(i[:2])))
    model.eval()(*inputs)
    for handle in handles:
        handle.remove()
    return seen[id(model.encoder)], seen[id(model.decoder)]


def variance(v, real):
    return v.transpose(0, 1)[real].double().var(correction=0).item()


@torch.no_grad()
def test_omega_equals_an_independent_profile_of_the_same_batch():
    """ω₁ = 1, ω_{i+1}² = Var(ω_i x_i) + Var F(x_i); from x and F(x) of the measured model itself."""
    model, inputs = build("transformer_rskip", *FLAGS).train(), batch()
    profile(model, *inputs)
    assert model.training
    source, _, target = inputs
    recorded = record(model, inputs)
    for stack, terms, tokens in zip((model.encoder, model.decoder), recorded, (source, target), strict=True):
        omega, real = 1.0, tokens.ne(1)
        assert len(terms) == len(skips(stack)) == 6
        for skip, (f_x, x) in zip(skips(stack), terms, strict=True):
            assert skip.profile.item() == pytest.approx(omega, rel=1e-5)
            omega = math.sqrt(omega**2 * variance(x, real) + variance(f_x, real))
    assert omega > 1.2


@torch.no_grad()
def test_with_normalised_inputs_it_is_the_papers_sum_of_variances():
    """ω_i² = 1 + Σ_{j<i} Var F_j, up to the embedding (the first x has another variance) and eps."""
    model, inputs = build("transformer_rskip", *FLAGS), batch()
    profile(model, *inputs)
    terms, _ = record(model, inputs)
    real = inputs[0].ne(1)
    omegas = [skip.profile.item() for skip in skips(model.encoder)]
    for i in range(1, len(omegas) - 1):
        total = omegas[1] ** 2 + sum(variance(f_x, real) for f_x, _ in terms[1 : i + 1])
        assert omegas[i + 1] ** 2 == pytest.approx(total, rel=1e-3)


def test_the_first_training_step_measures_and_no_later_one(tmp_path):
    model = build("transformer_rskip", *FLAGS).train()
    model.eval()(*batch())
    assert not any(skip.profiled for skip in skips(model))
    model.train()(*batch())
    measured = [skip.profile.item() for skip in skips(model)]
    assert all(skip.profiled for skip in skips(model))
    assert len(set(measured)) == 11  # twelve sub-layers; the first of each stack has 1
    model(*batch(seed=5))
    assert [skip.profile.item() for skip in skips(model)] == measured

    torch.save(model.state_dict(), tmp_path / "state.pt")
    resumed = build("transformer_rskip", *FLAGS, seed=2).train()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    resumed(*batch(seed=5))
    assert [skip.profile.item() for skip in skips(resumed)] == measured


def test_measuring_knows_neither_dropout_nor_layerdrop():
    flags = ("--dropout", "0.5", "--encoder-layerdrop", "0.9", "--decoder-layerdrop", "0.9")
    found = []
    for more in ((), flags):
        model = build("transformer_rskip", *FLAGS, *more).train()
        profile(model, *batch())
        assert all(skip.profiled for skip in skips(model))
        found.append([skip.profile.item() for skip in skips(model)])
    assert found[0] == found[1]


def test_padding_changes_nothing():
    found = []
    for longer in (False, True):
        source, lengths, target = batch()
        if longer:
            source = torch.cat((torch.ones(3, 4, dtype=torch.long), source), dim=1)
            target = torch.cat((target, torch.ones(3, 3, dtype=torch.long)), dim=1)
        model = build("transformer_rskip", *FLAGS)
        profile(model, source, lengths, target)
        found.append([skip.profile.item() for skip in skips(model)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_optimiser_moves_omega_from_what_was_measured():
    """ω = profile + shift: a copy of the parameters made before the measurement misses nothing."""
    model = build("transformer_rskip", *FLAGS).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*batch())[0].square().sum().backward()
    optimiser.step()
    for skip in skips(model):
        assert skip.shift.abs().max() > 0
        assert skip.shift.shape == (16,)
