"""The first weights of a model against the oracle of each initialisation."""

from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

from skipln_fairseq.models.family import example
from skipln_fairseq.models.flags import connections
from skipln_fairseq.nn import STARTS
from skipln_fairseq.nn.skip import Branch, Site
from tests.support.build import build, parse

DEPTH = (3, 2)
LARGE = (
    *("--encoder-layers", "3", "--encoder-embed-dim", "96", "--decoder-embed-dim", "96"),
    *("--encoder-ffn-embed-dim", "160", "--decoder-ffn-embed-dim", "160"),
)
CASES = [
    *((name, {}) for name in STARTS),
    ("ds", {"alpha": 0.5, "power": 0.25}),
]


def oracle(name):
    return import_module(f"tests.oracles.start.{name.replace('-', '_')}")


def options(name, given):
    return {
        option.name: given.get(option.name, option.default) for option in STARTS[name].declaration.options
    }


def model(name, given=None, *flags):
    numbers = [f"--ds-init-{option}={value}" for option, value in (given or {}).items()]
    return build("transformer_rskip", *LARGE, *example(STARTS[name].declaration).split(), *numbers, *flags)


def test_each_has_an_oracle_and_the_reverse():
    folder = import_module("tests.oracles.start").__path__
    assert {module.name for module in iter_modules(folder)} == {name.replace("-", "_") for name in STARTS}


@pytest.mark.parametrize(("name", "given"), CASES)
def test_each_matrix_is_as_large_as_the_oracle_says(name, given):
    """Of some thousand uniform numbers the largest is within 1 % of the bound, and none is beyond it."""
    numbers, seen = options(name, given), 0
    for key, weight in model(name, given).named_parameters():
        if ".layers." not in key or weight.dim() != 2:
            continue
        weight, (side, _, layer, *_, kind, _) = weight.detach(), key.split(".")
        expected = oracle(name).bound(kind, side, int(layer) + 1, DEPTH, *reversed(weight.shape), **numbers)
        assert 0.99 * expected < weight.abs().max() <= expected * (1 + 1e-6), key
        assert weight.std() == pytest.approx(expected / 3**0.5, rel=0.03), key
        seen += 1
    assert seen == 3 * 6 + 2 * 10


@pytest.mark.parametrize(("name", "given"), CASES)
@pytest.mark.parametrize("shared", [False, True])
def test_embeddings(name, given, shared):
    flags = ["--share-all-embeddings"] if shared else []
    built = model(name, given, *flags)
    for side, layers in zip(("encoder", "decoder"), DEPTH, strict=True):
        weight = getattr(built, side).embed_tokens.weight.detach()
        words, dim = weight.shape
        layers = DEPTH[0] if shared else layers
        expected = oracle(name).embedding(words, dim, layers, **options(name, given))
        real = torch.cat((weight[:1], weight[2:]))
        assert real.std() == pytest.approx(expected, rel=0.05)
        assert not weight[1].any()


def test_lipschitz_has_no_biases_at_first():
    last = ("proj.bias", "fc1.bias", "fc2.bias")
    biases = [bias for key, bias in model("lipschitz").named_parameters() if key.endswith(last)]
    assert len(biases) == 3 * 6 + 2 * 10
    assert not any(bias.any() for bias in biases)


def test_t_fixup_has_no_biases_in_the_feed_forward_at_first():
    """Without norms nothing would take them away again; attention's are as fairseq draws them."""
    biases = {key: bias for key, bias in model("t-fixup").named_parameters() if key.endswith("bias")}
    feed_forward = [key for key in biases if key.endswith(("fc1.bias", "fc2.bias"))]
    assert len(feed_forward) == 2 * (3 + 2)
    assert not any(biases[key].any() for key in feed_forward)
    assert all(biases[key].any() for key in biases if key.endswith("v_proj.bias"))


def test_a_kept_layer_has_the_weights_of_its_number():
    """Layer 3 of 3, kept alone, is made as the third."""
    kept = model("ds", None, "--encoder-layers-to-keep", "2")
    bound = oracle("ds").bound("fc1", "encoder", 3, DEPTH, 96, 160, alpha=1, power=0.5)
    assert kept.encoder.layers[0].fc1.weight.abs().max().item() == pytest.approx(bound, rel=0.01)


def test_the_sides_may_differ():
    args = parse("transformer_rskip", "--decoder-initialisation", "ds", "--skip-type", "plain")
    stacks = connections(args)
    assert (stacks["encoder"].start, stacks["decoder"].start) == ("fairseq", "ds")


@pytest.mark.parametrize("name", [name for name in STARTS if name != "fairseq"])  # which leaves them alone
def test_maps_without_a_bias_can_start(name):
    """As other models than fairseq's have them."""
    maps = (torch.nn.Linear(8, 16, bias=False), torch.nn.Linear(16, 8, bias=False))
    before = [linear.weight.detach().clone() for linear in maps]
    STARTS[name]().branch(Branch((), maps), Site(8, slot="ffn", depth=DEPTH))
    assert not any(torch.equal(old, linear.weight) for old, linear in zip(before, maps, strict=True))
