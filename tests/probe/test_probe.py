"""The probe's numbers against hand computations and autograd."""

import math

import pytest
import torch
import torch.nn.functional as F
from fairseq import utils

from skipln_fairseq.models.family import example
from skipln_fairseq.nn import SKIPS, build_connection
from skipln_fairseq.nn.norm.power import GroupScaling
from skipln_fairseq.nn.skip.siamese import SiameseSkip
from skipln_fairseq.nn.skip.streams import Streams
from skipln_fairseq.probe.batch import random_batch
from skipln_fairseq.probe.double import nothing_rounded
from skipln_fairseq.probe.measure import measure
from skipln_fairseq.probe.ratio import coefficients, ratios
from skipln_fairseq.probe.streams import STREAM_QUANTITIES
from skipln_fairseq.probe.subject import Batch, Variant, measure_variant
from skipln_fairseq.probe.watch import QUANTITIES, SubLayer
from tests.support.build import LAST, Task, batch, build, build_connection_model, wiring

DIM = 6
TINY = (
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "12", "--encoder-layers", "1"),
    *("--encoder-attention-heads", "2", "--decoder-layers", "1", "--decoder-attention-heads", "2"),
)
GATE = torch.sigmoid(torch.arange(DIM) / 10)
PADDING = torch.tensor([[False, False, True], [False, False, False]])


def mean_loss(model):
    """Cross entropy of the next token, a mean over the real ones."""
    source, lengths, target = batch()
    logits, _ = model(source, lengths, target)
    return F.cross_entropy(logits.flatten(0, 1), target.roll(-1, 1).flatten(), ignore_index=1)


@pytest.mark.parametrize("layers", [4, 6])
def test_gradients_of_large_scores_are_those_of_attention_written_out(layers, monkeypatch):
    """Without a norm, with λ = 2: single precision differs with 4 layers, torch's fused attention with 6."""
    flags = ["--skip-type=expanded", "--skip-scale=2", "--skip-norm=none"]
    flags += [f"--{side}-layers={layers}" for side in ("encoder", "decoder")]
    found = {r.place: r.gradient_norm for r in measure(build("transformer_rskip", *flags), mean_loss)}

    def written_out(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
        assert not dropout_p
        scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5
        if is_causal:
            attn_mask = torch.full(scores.shape[-2:], -1e30, dtype=q.dtype).triu(1)
        return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v

    monkeypatch.setattr(F, "scaled_dot_product_attention", written_out)
    model = build("transformer_rskip", *flags).double()
    assert found == pytest.approx({r.place: r.gradient_norm for r in measure(model, mean_loss)}, rel=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_fairseqs_softmaxes_keep_double_precision_in_a_measurement(name):
    """Those of cross-attention with alignments, and of the criteria."""
    x = torch.tensor([1e60, 2e60, 0.0], dtype=torch.float64)
    with nothing_rounded():
        found = getattr(utils, name)(x, dim=-1)
    assert torch.equal(found, getattr(x, name)(-1))
    assert getattr(utils, name)(x, dim=-1).dtype == torch.float32


def connection_and_inputs(skip, norm, norm_options=(), **options):
    """A connection with norm parameters off the identity, and F(x) and x, in double precision."""
    torch.manual_seed(0)
    config = wiring(skip, norm, norm_options=norm_options, **options)
    connection = build_connection(DIM, config, **LAST).double()
    with torch.no_grad():
        for parameter in connection.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    return connection, torch.randn(2, 3, DIM).double(), torch.randn(2, 3, DIM).double()


def frozen(norm, name, v):
    """N(v) written out, its statistics (and AdaNorm's bracket) without gradient."""
    real = v[~PADDING].detach()
    features = v.detach().mean(-1, keepdim=True), v.detach().var(-1, keepdim=True, correction=0)
    if name == "layer":
        return norm.weight * (v - features[0]) / (features[1] + norm.eps).sqrt() + norm.bias
    if name == "ada":
        y = (v - features[0]) / (features[1] + norm.eps).sqrt()
        return norm.scale * (1 - norm.slope * y.detach()) * y
    if name == "rms":
        return norm.weight * v / (v.detach().square().mean(-1, keepdim=True) + norm.eps).sqrt()
    if name == "scale":
        return norm.weight * v / v.detach().norm(dim=-1, keepdim=True)
    if name == "batch":
        return norm.weight * (v - real.mean(0)) / (real.var(0, correction=0) + norm.eps).sqrt() + norm.bias
    if isinstance(norm.scaling, GroupScaling):
        runs = v.detach().unflatten(-1, (norm.scaling.groups, -1))
        scale = (runs.square().mean(-1, keepdim=True) + norm.eps).sqrt().expand_as(runs).flatten(-2)
        v = v / scale
        real = v[~PADDING].detach()
    return norm.weight * v / (real.square().mean(0) + norm.eps).sqrt() + norm.bias  # power, warming up


PUBLISHED = (("published", True), ("groups", 2))


@pytest.mark.parametrize(
    ("norm", "norm_options"),
    [*((norm, ()) for norm in ("layer", "ada", "rms", "scale", "batch", "power")), ("power", PUBLISHED)],
)
def test_a_recursions_coefficients_equal_autograd_with_constant_statistics(norm, norm_options):
    connection, f_x, x = connection_and_inputs("recursive", norm, norm_options, order=3)
    a, b = coefficients(connection.skip, f_x, x, PADDING)
    f_x.requires_grad_()
    x.requires_grad_()
    y = f_x
    for inner in connection.skip.norms:
        y = frozen(inner, norm, x + y)
    slopes = torch.autograd.grad((x + y).sum(), (x, f_x))
    for found, expected in zip((a, b), slopes, strict=True):
        torch.testing.assert_close(found[~PADDING], expected[~PADDING], rtol=1e-6, atol=1e-9)


def test_order_2_has_the_ratio_one_plus_sigma_by_w():
    connection, f_x, x = connection_and_inputs("recursive", "layer", order=2)
    inner = connection.skip.norms[0]
    sigma = ((x + f_x).var(-1, keepdim=True, correction=0) + inner.eps).sqrt()
    expected = 1 + sigma / inner.weight
    a, b = coefficients(connection.skip, f_x, x)
    torch.testing.assert_close(a / b, expected)
    torch.testing.assert_close(ratios(connection.skip, f_x, x)[0], expected.median())
    norms = ((1 + inner.weight / sigma) * x).norm() / (inner.weight / sigma * f_x).norm()
    torch.testing.assert_close(ratios(connection.skip, f_x, x)[1], norms)


def test_a_recursion_leaves_running_statistics_alone():
    connection, f_x, x = connection_and_inputs("recursive", "batch", order=2)
    before = {name: value.clone() for name, value in connection.state_dict().items()}
    ratios(connection.skip, f_x, x, PADDING)
    torch.testing.assert_close(connection.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("skip", "options", "expected"),
    [
        ("plain", {}, lambda skip: (1, 1)),
        ("expanded", {"scale": -2.0}, lambda skip: (-2, 1)),
        ("deepnorm", {}, lambda skip: (0.81, 1)),  # of one layer a side
        ("learned", {"scale": 2.0, "vector": True}, lambda skip: (skip.scale, 1)),
        ("admin", {}, lambda skip: (1 + skip.shift, 1)),
        ("layerscale", {"scale": 0.5}, lambda skip: (1, skip.scale)),
        ("b2t", {}, lambda skip: (1, 1)),
        ("highway", {}, lambda skip: (1 - GATE, GATE)),
        ("dual", {}, lambda skip: (1, 1)),
    ],
)
def test_the_ratio_of_every_other_skip_counts_real_tokens_only(skip, options, expected):
    connection, f_x, x = connection_and_inputs(skip, "layer", **options)
    if skip == "highway":  # of constant gates, to be known here
        torch.nn.init.zeros_(connection.skip.gate.weight)
        connection.skip.gate.bias.data = torch.arange(DIM).double() / 10
    a, b = expected(connection.skip)
    a, b = (torch.as_tensor(part).detach().expand(DIM) for part in (a, b))
    spoilt = f_x.masked_fill(PADDING.unsqueeze(-1), 1e9)
    coefficient_ratio, term_ratio = ratios(connection.skip, spoilt, x, PADDING)
    assert float(coefficient_ratio) == pytest.approx(float((a / b).abs().median()))
    assert float(term_ratio) == pytest.approx(float((a * x)[~PADDING].norm() / (b * f_x)[~PADDING].norm()))


def test_a_fresh_rezero_has_only_x():
    connection = build_connection(DIM, wiring("rezero", "none"))
    assert [float(ratio) for ratio in ratios(connection.skip, torch.ones(2, DIM), torch.ones(2, DIM))] == [
        math.inf
    ] * 2


def test_the_ratio_is_blank_where_a_norm_has_no_statistics():
    connection, f_x, x = connection_and_inputs("recursive", "dyt", order=2)
    assert ratios(connection.skip, f_x, x) is None
    assert ratios(connection_and_inputs("recursive", "dyt", order=1)[0].skip, f_x, x) is not None


@pytest.mark.parametrize("name", ["plain", "pre", "no-norm", "rskip-3-shared", "hyper-dynamic"])
@pytest.mark.parametrize("flags", [(), ("--checkpoint-activations",)])
def test_norms_equal_those_of_autograd(name, flags):
    """A layer's output is its last sub-layer's, and torch keeps its gradient without any help of the probe."""
    readings = {r.place: r for r in measure(build_connection_model(name, *flags).double(), mean_loss)}
    slots = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}
    assert list(readings) == [
        SubLayer(side, layer, s) for side in slots for layer in (0, 1) for s in slots[side]
    ]

    model = build_connection_model(name).double().eval()  # no dropout
    outputs = {}
    for side in slots:
        for layer, module in enumerate(getattr(model, side).layers):

            def keep(module, inputs, output, key=(side, layer)):
                outputs[key] = output[0] if isinstance(output, tuple) else output
                outputs[key].retain_grad()

            module.register_forward_hook(keep)
    mean_loss(model).backward()
    source, _, target = batch()
    for (side, layer), y in outputs.items():
        reading = readings[SubLayer(side, layer, "ffn")]
        real = y.transpose(0, 1)[{"encoder": source, "decoder": target}[side].ne(1)]
        assert reading.activation_norm == pytest.approx(real.square().sum(-1).sqrt().mean().item())
        assert reading.gradient_norm == pytest.approx(y.grad.square().sum().sqrt().item())
        weight = getattr(model, side).layers[layer].fc2.weight
        assert reading.fc2_gradient_norm == pytest.approx(weight.grad.square().sum().sqrt().item())
    assert readings[SubLayer("encoder", 0, "self_attn")].fc2_gradient_norm is None


def test_of_a_block_that_is_applied_again_the_last_application_is_measured():
    model = build("transformer_rskip", "--encoder-solver=rk4", "--encoder-layers=1").double().eval()
    outputs = []

    def keep(module, inputs, y):
        outputs.append(y)
        y.retain_grad()

    handle = model.encoder.layers[0].final_layer_norm.register_forward_hook(keep)
    mean_loss(model).backward()
    handle.remove()
    assert len(outputs) == 4
    expected = [y.grad.norm().item() for y in outputs]
    (found,) = (r for r in measure(model, mean_loss) if r.place == SubLayer("encoder", 0, "ffn"))
    assert found.gradient_norm == pytest.approx(expected[-1])
    assert min(abs(found.gradient_norm / other - 1) for other in expected[:-1]) > 0.01


@pytest.mark.parametrize("skip", SKIPS)
def test_every_skip_type_is_measured_at_every_sub_layer(skip):
    wanted = Variant(skip, (*TINY, *example(SKIPS[skip].declaration).split()))
    (measured,) = measure_variant(wanted, 2, [1], Batch(sentences=2, length=5, words=9))
    assert measured.layers == (2, 2)
    assert len(measured.readings) == 10
    # F of several streams is added to no x that it reads
    blank = {"coefficient_ratio", "term_ratio"} if issubclass(SKIPS[skip], (Streams, SiameseSkip)) else set()
    blank |= set() if issubclass(SKIPS[skip], Streams) else STREAM_QUANTITIES.keys()
    for reading in measured.readings:
        assert all(getattr(reading, quantity) >= 0 for quantity in QUANTITIES.keys() - blank)
        assert all(getattr(reading, quantity) is None for quantity in blank)


def test_seeds_are_drawn_apart_and_again_the_same():
    def last(seeds):
        found = measure_variant(
            Variant("plain", (*TINY, "--skip-type", "plain")), None, seeds, Batch(2, 5, 9)
        )
        return [one.last_fc2_gradient for one in found]

    assert last([1, 2]) == [*last([1]), *last([2])]
    assert last([1]) != last([2])


def test_random_sentences_end_and_are_shifted_as_fairseqs():
    sample = random_batch(Task(), 3, 5, seed=1)
    assert (sample["target"][:, -1] == 2).all()
    assert (sample["net_input"]["prev_output_tokens"][:, 0] == 2).all()
    assert sample["net_input"]["prev_output_tokens"][:, 1:].equal(sample["target"][:, :-1])
    text = random_batch(Task(), 3, 5, seed=1, translates=False)
    assert text["net_input"]["src_tokens"][:, 1:].equal(text["target"][:, :-1])
