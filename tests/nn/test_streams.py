"""Rules with several streams: where they start, what equals what, x alone in any layer, half precision."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn import SKIPS, build_connection, build_end
from skipln_fairseq.nn.skip.mhc import sinkhorn
from skipln_fairseq.nn.skip.streams import Streams
from skipln_fairseq.probe.watch import sub_layers
from tests.support.build import build, wiring

DIM = 6
OPTIONS = {"streams": 3, "fractions": 3, "iterations": 20, "start": "megatron", "readout": "sigmoid"}
SEVERAL = [skip for skip in SKIPS if issubclass(SKIPS[skip], Streams)]
# what is at first Pre-LN
PRE = ["hyper", "hyper-dynamic", "frac", "frac-dynamic"]
SLOTS = ("self_attn", "cross_attn", "ffn")


def made(skip, layer=0, index=0, placement="pre", **options):
    where = {"slot": SLOTS[index], "index": index, "last": index == 2, "size": 3, "layer": layer}
    config = wiring(skip, "layer", placement, **{**OPTIONS, **options})
    return build_connection(DIM, config, side="decoder", **where)


def stack(skip, placement="pre", layers=2, **options):
    return [made(skip, layer, index, placement, **options) for layer in range(layers) for index in range(3)]


def end_of(skip, placement="pre", **options):
    return build_end(DIM, wiring(skip, "layer", placement, **{**OPTIONS, **options}))


def walk(connections, matrices, x):
    """The streams after each sub-layer; F is a tanh and a matrix."""
    walked = [x]
    for connection, matrix in zip(connections, matrices, strict=True):
        walked.append(connection.leave(matrix(connection.enter(walked[-1]).tanh()), walked[-1]))
    return walked


def input_of(seed=0, dtype=torch.float32):
    return torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("skip", PRE)
def test_it_is_pre_ln_at_first_bit_for_bit(skip, count):
    """Each stream, forward; the end has its norm over the sum, whose eps is then that of count² times the variance."""
    if "frac" in skip and count == 4:
        count = 6
    torch.manual_seed(0)
    matrices = [nn.Linear(DIM, DIM) for _ in range(6)]
    x = input_of()
    plain = walk(stack("plain"), matrices, x)
    found = walk(stack(skip, streams=count, fractions=count), matrices, x)
    for before, after in zip(plain[1:], found[1:], strict=True):
        copies = after.chunk(count, -1) if "hyper" in skip else [after]
        assert all(torch.equal(one, before) for one in copies)
    expected, end = end_of("plain"), end_of(skip, streams=count)
    if "hyper" in skip:
        end.norm.eps *= count**2
    torch.testing.assert_close(end(found[-1]), expected(plain[-1]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("skip", ["hyper", "hyper-dynamic"])
def test_each_sub_layer_of_a_stack_reads_another_stream_at_first(skip):
    found = [connection.skip.alpha[:, 0].argmax().item() for connection in stack(skip, streams=4)]
    assert found == [0, 1, 2, 3, 0, 1]
    kept = made(skip, streams=4).skip
    assert kept.alpha[:, 0].sum() == 1
    assert torch.equal(kept.alpha[:, 1:], torch.eye(4))
    assert torch.equal(kept.beta, torch.ones(4))


def test_a_model_counts_the_sub_layers_of_each_side():
    model = build("transformer_rskip", "--skip-type", "hyper", "--skip-streams", "6")
    found = [place.skip.alpha[:, 0].argmax().item() for place in sub_layers(model).values()]
    assert found == [0, 1, 2, 3, *range(6)]


def test_where_what_is_dynamic_starts():
    for skip in ("hyper-dynamic", "frac-dynamic"):
        rule = made(skip).skip
        assert not rule.to_alpha.any()
        assert not rule.to_beta.any()
        assert (rule.alpha_scale.item(), rule.beta_scale.item()) == pytest.approx((0.01, 0.01))
    assert made("frac-dynamic").skip.norm.normalized_shape == (DIM // 3,)


@pytest.mark.parametrize("skip", ["mhc", "hyper-identity"])
def test_where_mapped_streams_start(skip):
    """α and T of the paper; φ and b as the option says."""
    torch.manual_seed(0)
    for start, spread in (("megatron", math.sqrt(2 / (64 * 4 + 24))), ("factory", 0.02)):
        config = wiring(skip, streams=4, start=start, readout="sigmoid")
        maps = build_connection(64, config).skip.maps
        if skip == "hyper-identity":
            spread = {"megatron": math.sqrt(2 / (64 * 4 + 8))}.get(start, spread)
        for one in (maps, build_end(64, wiring(skip, placement="pre", start=start, readout="sigmoid")).maps):
            assert torch.equal(one.alpha, torch.full_like(one.alpha, 0.01))
            assert not one.bias.any()
        assert maps.phi.std().item() == pytest.approx(spread, rel=0.1)
        assert (maps.phi.abs().max() > 1.8 * spread) == (start == "factory")
    options = {option.name: option for option in SKIPS[skip].declaration.options}
    assert options["start"].default is options["readout"].default is None
    assert options["streams"].default == 4
    assert skip != "mhc" or options["iterations"].default == 20


def test_sinkhorn_is_doubly_stochastic_and_never_nan():
    logits = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    found = sinkhorn(logits, 20)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, 4))
    torch.testing.assert_close(found.sum(-2), torch.ones(5, 4), rtol=0, atol=1e-4)
    # one step: the columns first, so that it is the rows that sum to 1
    once = sinkhorn(logits.double(), 1)
    columns = logits.double().exp() / logits.double().exp().sum(-2, keepdim=True)
    torch.testing.assert_close(once, columns / columns.sum(-1, keepdim=True))
    extreme = (1e4 * logits).requires_grad_()
    found = sinkhorn(extreme, 20)
    found.square().sum().backward()
    assert found.isfinite().all()
    assert extreme.grad.isfinite().all()


def test_the_identity_form_is_mhc_without_mixing():
    """With H_res at (nearly) the identity mHC is the identity form of the same φ and b."""
    torch.manual_seed(0)
    mhc, identity, x = made("mhc").skip.double(), made("hyper-identity").skip.double(), input_of(1).double()
    stream = torch.cat((x, 2 * x, x.flip(-1)), -1)
    with torch.no_grad():
        mhc.maps.phi[6:] = 0
        mhc.maps.bias[6:] = 40 * torch.eye(3).flatten()
        identity.maps.phi.copy_(mhc.maps.phi[:6])
    torch.testing.assert_close(mhc.read(stream), identity.read(stream))
    torch.testing.assert_close(mhc(x, stream), identity(x, stream))


@pytest.mark.parametrize(("skip", "placement"), [*((s, "pre") for s in SEVERAL), ("siamese", "post")])
def test_x_alone_stands_for_copies_in_any_layer_and_at_the_end(skip, placement):
    """The first layer may be pruned or dropped, and layerdrop may drop all layers."""
    torch.manual_seed(0)
    for connection in stack(skip, placement)[1:]:
        copies = {"siamese": 2, "frac": 1, "frac-dynamic": 1}.get(skip, 3)
        f_x, x = input_of(1), input_of()
        wide = x.repeat(1, 1, copies)
        assert torch.equal(connection.enter(x), connection.enter(wide))
        assert torch.equal(connection.leave(f_x, x), connection.leave(f_x, wide))
    end = end_of(skip, placement)
    assert torch.equal(end(x), end(wide))
    assert end(x).shape == x.shape


def test_the_depth_divides_siamese_norms_update():
    """The code's c is √2 in both sub-layers of a stock block of two, then 2; the paper's √1, √2, √3, …"""
    config = {source: wiring("siamese", source=source) for source in ("code", "paper")}
    for source, squares in (("code", [2, 2, 4, 4]), ("paper", [1, 2, 3, 4])):
        sites = [{"layer": layer, "index": index, "size": 2} for layer in range(2) for index in range(2)]
        found = [build_connection(DIM, config[source], **site).skip.divisor ** 2 for site in sites]
        assert found == pytest.approx(squares)
    assert [c.skip.divisor**2 for c in stack("siamese", "post")] == pytest.approx([3, 3, 3, 6, 6, 6])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("skip", SEVERAL)
def test_half_precision_rounds_streams_and_not_weights(skip, dtype):
    """What is read is the rounded result of the weights in single precision: they are never rounded themselves."""
    torch.manual_seed(0)
    rule = made(skip).skip
    with torch.no_grad():
        for name, parameter in rule.named_parameters():
            if "norm" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter)).copy_(parameter.to(dtype))
    stream = torch.cat([input_of(seed, dtype) for seed in range(1 if "frac" in skip else 3)], -1)
    f_x = input_of(9, dtype)
    if "dynamic" in skip:  # its norm is the only thing that is computed in half
        rule.norm = nn.Identity()
    read, left = rule.read(stream.float()), rule(f_x.float(), stream.float())
    rule.to(dtype)
    assert rule.read(stream).dtype == rule(f_x, stream).dtype == dtype
    assert torch.equal(rule.read(stream), read.to(dtype))
    assert torch.equal(rule(f_x, stream), left.to(dtype))


def test_weights_of_one_token_see_no_other():
    """So padding leaks nothing and a step of decoding is what the whole pass is."""
    torch.manual_seed(0)
    for skip in SEVERAL:
        rule, stream = made(skip).skip, input_of()
        whole = rule(stream, stream)
        for row in range(3):
            alone = rule(stream[:, row : row + 1], stream[:, row : row + 1])
            np.testing.assert_allclose(alone[:, 0].detach(), whole[:, row].detach(), rtol=1e-5, atol=1e-6)
