"""Norms over the batch: statistics of real tokens, moved once a batch, one set for each recursion step."""

import numpy as np
import pytest
import torch

from skipln_fairseq.nn import NORMS, build_connection, norms_of
from skipln_fairseq.nn.norm.power import PowerNorm
from skipln_fairseq.nn.norm.statistics import standing_in
from tests import oracles
from tests.support.build import batch, build, wiring

DIM = 5


def inputs(seed=0):
    """v (time, batch, dim), its mask with two positions of padding, and an output's gradient."""
    generator = torch.Generator().manual_seed(seed)
    v, g = torch.randn(2, 4, 3, DIM, generator=generator, dtype=torch.float64)
    padding = torch.zeros(4, 3, dtype=torch.bool)
    padding[2:, 1] = True
    return 2 * v + 1, padding, g


def randomised(name, **numbers):
    generator = torch.Generator().manual_seed(3)
    norm = NORMS[name](DIM, **numbers).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(1 + 0.5 * torch.randn(DIM, generator=generator, dtype=torch.float64))
    return norm


def test_batch_norm_equals_the_oracle_on_real_tokens():
    norm, (v, padding, g) = randomised("batch"), inputs()
    g = g.masked_fill(padding[..., None], 0)
    out = norm(v.requires_grad_(), padding)
    out.backward(g)
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    tokens = v.detach()[~padding].numpy()
    expected = oracles.batch_norm(tokens, weight, bias)
    np.testing.assert_allclose(out.detach()[~padding].numpy(), expected, rtol=0, atol=1e-13)
    expected = oracles.batch_norm_backward(tokens, g[~padding].numpy(), weight)
    np.testing.assert_allclose(v.grad[~padding].numpy(), expected, rtol=0, atol=1e-13)
    assert v.grad[padding].eq(0).all()


def test_batch_norm_without_padding_is_torchs():
    ours, (v, _, _) = randomised("batch"), inputs()
    theirs = torch.nn.BatchNorm1d(DIM).double()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for _ in range(3):
        torch.testing.assert_close(ours(v), theirs(v.flatten(0, 1)).view_as(v), rtol=0, atol=1e-13)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-13)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(v), theirs(v.flatten(0, 1)).view_as(v), rtol=0, atol=1e-13)


def test_batch_norms_gradients_are_the_forwards_derivative():
    norm, (v, padding, _) = randomised("batch"), inputs()
    assert torch.autograd.gradcheck(lambda v: norm(v, padding)[~padding], (v.requires_grad_(),))


def power_by_hand(steps, warmup, published, decay=0.9, eps=1e-5, padding=None):
    """The paper's or the published code's steps in numpy over successive (tokens, gradient), with unit weights.

    ``padding`` are further (tokens, gradient) of each step that Γ and Λ are means over as well.
    """
    psi2, nu, results = np.ones(DIM), np.zeros(DIM), []
    padding = padding or [(np.zeros((0, DIM)), np.zeros((0, DIM)))] * len(steps)
    for t, ((tokens, g), (more, more_g)) in enumerate(zip(steps, padding, strict=True), start=1):
        own = (tokens**2).mean(0)
        psi = np.sqrt((own if t <= warmup else psi2) + eps)
        if published:
            psi2 = psi2 + (own - psi2) / t if t < warmup else psi2
            psi2 = decay * psi2 + (1 - decay) * own
        else:
            psi2 = psi2 + max(1 / t, 1 - decay) * (own - psi2)
        z = tokens / psi
        results.append((z, (g - nu * z) / (np.sqrt(own + eps) if published else psi)))
        z, g = np.concatenate((z, more / psi)), np.concatenate((g, more_g))
        gamma, lamda = (z**2).mean(0), (g * z).mean(0)
        nu = nu * (1 - (1 - decay) * gamma) + (1 - decay) * lamda
    return results, psi2, nu


@pytest.mark.parametrize("published", [False, True], ids=["paper", "published code"])
@pytest.mark.parametrize("warmup", [0, 2, 100])
def test_power_norm_equals_the_papers_and_the_codes_forward_and_backward(warmup, published):
    norm, steps = (
        PowerNorm(DIM, warmup=warmup, published=published).double(),
        [inputs(seed) for seed in range(5)],
    )
    expected, psi2, nu = power_by_hand(
        [(v[~p].numpy(), g[~p].numpy()) for v, p, g in steps], warmup, published
    )
    for (v, padding, g), (z, d_v) in zip(steps, expected, strict=True):
        out = norm(v.requires_grad_(), padding)
        out.backward(g)
        np.testing.assert_allclose(out.detach()[~padding].numpy(), z, rtol=0, atol=1e-12)
        np.testing.assert_allclose(v.grad[~padding].numpy(), d_v, rtol=0, atol=1e-12)
        assert v.grad[padding].eq(0).all()
    np.testing.assert_allclose(norm.running_power.numpy(), psi2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(norm.running_gradient.numpy(), nu, rtol=0, atol=1e-12)
    assert norm.batches == len(steps)
    v, padding, _ = steps[0]
    out = norm.eval()(v.detach(), padding).detach().numpy()
    np.testing.assert_allclose(out, v.detach().numpy() / np.sqrt(psi2 + 1e-5), rtol=0, atol=1e-12)


def groups_scaled(v, groups, eps=1e-5):
    runs = np.split(v, groups, axis=-1)
    return np.concatenate([run / np.sqrt((run**2).mean(-1, keepdims=True) + eps) for run in runs], -1)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("warmup", [0, 4])
def test_group_scaling_stands_before_power_norm(groups, warmup):
    """The backward: what the norm gives to the scaled v, through the scaling's derivative by finite differences."""
    generator = np.random.default_rng(0)
    steps = [tuple(generator.standard_normal((2, 7, 6))) for _ in range(3)]
    norm = PowerNorm(6, warmup=warmup, published=True, groups=groups).double()
    plain = PowerNorm(6, warmup=warmup, published=True).double()
    for tokens, g in steps:
        v = torch.tensor(tokens, requires_grad=True)
        scaled = torch.tensor(groups_scaled(tokens, groups), requires_grad=True)
        out, expected = norm(v), plain(scaled)
        np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=0, atol=1e-12)
        for each in (out, expected):
            each.backward(torch.tensor(g))
        direction = generator.standard_normal(tokens.shape)
        ends = [groups_scaled(tokens + sign * 1e-6 * direction, groups) for sign in (1, -1)]
        slope = (scaled.grad.numpy() * (ends[0] - ends[1])).sum() / 2e-6
        assert (v.grad.numpy() * direction).sum() == pytest.approx(slope, rel=1e-6)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer, rtol=0, atol=1e-12)


def test_padding_has_no_part_in_power_norms_backward_as_it_has_in_the_published_code():
    """A deviation. Theirs: Γ and Λ are means over padding too, so a real token's gradient follows from how long the
    batch's longest sentence is. Ours: over real tokens, however much padding there is, which has no gradient."""
    ours, theirs, running = [], [], []
    for longer in (0, 5):
        steps = []
        for v, mask, g in (inputs(seed) for seed in range(3)):
            more = torch.full((longer, 3, DIM), 0.5, dtype=torch.float64)
            mask = torch.cat((mask, torch.ones(longer, 3, dtype=torch.bool)))
            steps.append((torch.cat((v, more)), mask, torch.cat((g, more)).masked_fill(mask[..., None], 0)))
        norm = PowerNorm(DIM, published=True).double()
        for v, mask, g in steps:
            norm(v.requires_grad_(), mask).backward(g)
            assert v.grad[mask].eq(0).all()
        ours.append(steps[-1][0].grad[~mask].numpy())
        running.append(norm.running_gradient.numpy())
        real = [(v.detach()[~mask].numpy(), g[~mask].numpy()) for v, mask, g in steps]
        padding = [(v.detach()[mask].numpy(), g[mask].numpy()) for v, mask, g in steps]
        results, _, nu = power_by_hand(real, 4000, True)
        np.testing.assert_allclose(ours[-1], results[-1][1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(running[-1], nu, rtol=0, atol=1e-12)
        results, _, nu = power_by_hand(real, 4000, True, padding=padding)
        theirs.append((results[-1][1], nu))
    assert np.array_equal(*running)
    assert np.array_equal(*ours)
    for our, (their, their_nu), nu in zip(ours, theirs, running, strict=True):
        assert abs(our - their).max() > 1e-3
        assert abs(nu - their_nu).max() > 5e-3
    assert abs(theirs[0][0] - theirs[1][0]).max() > 1e-3


def test_power_norms_affine_map():
    norm, (v, padding, g) = randomised("power"), inputs()
    norm(v, padding).backward(g)
    z = v / (v[~padding].square().mean(0) + norm.eps).sqrt()
    torch.testing.assert_close(norm.weight.grad, (g * z).sum((0, 1)), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.bias.grad, g.sum((0, 1)), rtol=0, atol=1e-12)


def test_a_batch_whose_loss_is_ignored_has_no_gradient_and_moves_no_running_gradient():
    """fairseq multiplies such a batch's loss by zero; PowerNorm's ν must not come back through it."""
    norm, (v, padding, g) = randomised("power"), inputs()
    norm(v.requires_grad_(), padding).backward(g)
    before = norm.running_gradient.clone()
    assert before.abs().max() > 0
    v.grad = None
    with standing_in(norm):
        out = norm(v, padding)
    out.backward(0 * g)
    assert v.grad.eq(0).all()
    assert torch.equal(norm.running_gradient, before)


@pytest.mark.parametrize("name", norms_of(("batch",)))
def test_padding_changes_nothing(name):
    v, padding, _ = inputs()
    first, second = randomised(name), randomised(name)
    out = first(v, padding)
    other = second(v.masked_fill(padding[..., None], 1e3), padding)
    assert torch.equal(out[~padding], other[~padding])
    for buffer, value in first.named_buffers():
        assert torch.equal(value, second.get_buffer(buffer)), buffer


@pytest.mark.parametrize("flags", ["--skip-order 3", "--skip-type plain --norm-placement sandwich"])
@pytest.mark.parametrize("name", norms_of(("batch",)))
def test_models_hand_the_padding_to_every_norm(name, flags):
    """In training, longer padding on both sides changes no output and no statistic of any sub-layer."""
    outputs, moved = [], []
    for longer in (False, True):
        source, lengths, target = batch()
        if longer:
            source = torch.cat((torch.ones(3, 4, dtype=torch.long), source), dim=1)
            target = torch.cat((target, torch.ones(3, 3, dtype=torch.long)), dim=1)
        model = build("transformer_rskip", *flags.split(), "--skip-norm", name, "--dropout", "0").double()
        outputs.append(model(source, lengths, target)[0][:, :6][batch()[2].ne(1)])
        moved.append(statistics(model))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-6)  # attention's softmax is in single
    for key, value in moved[0].items():
        torch.testing.assert_close(moved[1][key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", norms_of(("batch",)))
@pytest.mark.parametrize("tokens", [0, 1])
def test_a_batch_of_one_token_or_none_is_finite(name, tokens):
    v = torch.randn(2, 1, DIM, requires_grad=True)
    padding = torch.tensor([[False], [True]]) if tokens else torch.ones(2, 1, dtype=torch.bool)
    norm = NORMS[name](DIM)
    norm(v, padding)[~padding].sum().backward()
    assert v.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in norm.buffers())


@pytest.mark.parametrize("name", norms_of(("batch",)))
@pytest.mark.parametrize("tokens", [0, 1])
def test_a_batch_of_padding_moves_nothing(name, tokens):
    """And of one token BatchNorm has no unbiased variance."""
    norm, (v, _, _) = randomised(name), inputs()
    norm(v)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    norm(v, torch.arange(12).view(4, 3) >= tokens)
    moved = {key for key, value in norm.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == (
        {"batch": {"running_mean"}, "power": {"running_power", "batches"}}[name] if tokens else set()
    )
    norm(v[:0])


@pytest.mark.parametrize(
    ("name", "numbers"), [("batch", {}), ("power", {}), ("power", {"published": True, "groups": 1})]
)
def test_half_precision_keeps_its_statistics_in_single(name, numbers):
    """Squares of 300 are beyond float16; sums over real tokens must not be."""
    v = 300 + torch.randn(8, 4, DIM).half()
    norm = NORMS[name](DIM, **numbers).half()
    for _ in range(5):
        assert norm(v).dtype == torch.float16
        assert norm(v).isfinite().all()
    assert all(
        b.dtype == torch.float32 and b.isfinite().all() for b in norm.buffers() if b.is_floating_point()
    )
    assert norm.eval()(v).isfinite().all()


@pytest.mark.parametrize("name", norms_of(("batch",)))
@pytest.mark.parametrize("share", [False, True])
def test_each_recursion_step_has_its_own_statistics(name, share):
    config = wiring("recursive", name, order=3, share=share)
    connection, (f_x, padding, x) = build_connection(DIM, config).double(), inputs()
    connection.leave(f_x, x, padding)
    steps = [*connection.skip.norms, connection]
    first = next(iter(connection.named_buffers(recurse=False)))[0]
    statistics = [step.get_buffer(first) for step in steps]
    assert len({tuple(s.tolist()) for s in statistics}) == 3
    assert len({id(step.weight) for step in steps}) == (1 if share else 3)


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "layer_norm" in name}


@pytest.mark.parametrize("name", norms_of(("batch",)))
def test_statistics_move_once_under_checkpointed_activations(name):
    """The first pass of a checkpointed layer has no gradients and moves nothing, the second one does."""
    moved = []
    for flags in ([], ["--checkpoint-activations"]):
        model = build("transformer_rskip", "--skip-norm", name, "--dropout", "0", *flags).double()
        before = statistics(model)
        model(*batch())[0].square().sum().backward()
        after = statistics(model)
        assert any(not torch.equal(before[key], after[key]) for key in before)
        moved.append(after)
    assert moved[0].keys() == moved[1].keys()
    for key, value in moved[0].items():
        torch.testing.assert_close(moved[1][key], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", norms_of(("batch",)))
def test_evaluation_moves_nothing(name):
    model = build("transformer_rskip", "--skip-norm", name).eval()
    before = statistics(model)
    model(*batch())
    after = statistics(model)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", norms_of(("batch",)))
def test_in_training_later_positions_leak_and_in_evaluation_they_do_not(name):
    """What docs/connections.md says of these norms: their training statistics are over all positions."""
    model = build("transformer_rskip", "--skip-norm", name, "--dropout", "0")
    source, lengths, target = batch()
    changed = target.clone()
    changed[:, 4:] = 11
    with torch.no_grad():
        for training, equal in ((True, False), (False, True)):
            model.train(training)
            before, after = model(source, lengths, target)[0], model(source, lengths, changed)[0]
            assert torch.equal(before[:, :4], after[:, :4]) == equal
