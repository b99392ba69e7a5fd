"""``--kernels``: the fast forms compute what the reference does, and step aside where they would be in the way."""

import io

import pytest
import torch
from fairseq.modules.quantization.scalar.modules import IntLinear

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.nn import Connection, build_connection, fuse
from skipln_fairseq.nn.norm.layer import LayerNorm
from tests.support.build import CONNECTIONS, batch, build, build_connection_model, wiring

STEPS = {"b2t", "dual", "hyper-dynamic", "frac", "siamese", "mhc"}  # streams of which kernels know nothing
FUSED = set(CONNECTIONS) - STEPS


def pair(name, *flags):
    return [
        build_connection_model(name, "--dropout", "0", "--kernels", kernels, *flags)
        for kernels in ("reference", "fast")
    ]


def features_and_gradients(model):
    features, _ = model(*batch(), features_only=True)
    features.square().sum().backward()
    return features, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", CONNECTIONS)
def test_fast_is_the_reference_within_rounding(name, mode):
    reference, fast = (getattr(model, mode)() for model in pair(name))
    expected, gradients = features_and_gradients(reference)
    features, our_gradients = features_and_gradients(fast)
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-5)
    largest = max(g.abs().max() for g in gradients.values() if g is not None)
    for key, gradient in gradients.items():
        if gradient is None:
            assert our_gradients[key] is None, key
        else:
            # the bias of k_proj has no effect: its gradient is rounding, as large as that of what is summed up in it
            torch.testing.assert_close(our_gradients[key], gradient, rtol=1e-4, atol=2e-6 * largest, msg=key)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_fast_is_taken_where_it_can_be_and_renames_nothing(name):
    reference, fast = pair(name)
    assert list(reference.state_dict()) == list(fast.state_dict())
    kinds = [
        {type(m).__name__.startswith("Fused") for m in model.modules() if isinstance(m, Connection)}
        for model in (reference, fast)
    ]
    # one norm of this connection has no kernel
    assert kinds == [{False}, {True, False} if name == "sandwich-rms" else {name in FUSED}]


def test_fused_twice_is_fused_once():
    connection = build_connection(16, wiring())
    fuse(connection)
    kind = type(connection)
    fuse(connection)
    assert type(connection) is kind


@pytest.mark.parametrize("name", sorted(FUSED))
def test_scripting_takes_the_reference(name):
    reference, fast = (model.eval() for model in pair(name))
    stored = io.BytesIO()
    torch.jit.save(torch.jit.script(fast), stored)
    stored.seek(0)
    tokens = batch()
    assert torch.equal(torch.jit.load(stored)(*tokens)[0], torch.jit.script(reference)(*tokens)[0])


@pytest.mark.parametrize("watch", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_a_norm_whose_gradient_is_watched_is_called(watch):
    seen = []
    model = build_connection_model("rskip-2")
    norm = model.encoder.layers[0].final_layer_norm.skip.norms[0]
    getattr(norm, watch)(lambda module, *gradients: seen.append(gradients[-1]))
    features_and_gradients(model)
    assert len(seen) == 1


def test_what_computes_something_else_than_its_norm_has_no_kernel():
    class Doubled(LayerNorm):
        def forward(self, v, padding_mask=None):
            return 2 * super().forward(v)

    connection = build_connection(16, wiring("recursive", order=2))
    f_x, x = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    fuse(connection)
    connection.skip.norms[0] = Doubled(16)
    inner = 2 * torch.nn.functional.layer_norm(x + f_x, [16])
    torch.testing.assert_close(connection.leave(f_x, x), torch.nn.functional.layer_norm(x + inner, [16]))


def test_projections_that_are_exchanged_later_are_what_counts():
    """As ``--quant-noise-scalar`` does, whose modules hold a weight and compute with another."""
    reference, fast = (model.eval() for model in pair("plain"))
    for model in (reference, fast):
        attention = model.encoder.layers[0].self_attn
        linear = attention.q_proj
        attention.q_proj = IntLinear(linear.in_features, linear.out_features, p=0, bits=2, method="tensor")
        attention.q_proj.load_state_dict(linear.state_dict(), strict=False)
    tokens = batch()
    torch.testing.assert_close(fast(*tokens)[0], reference(*tokens)[0])


@pytest.mark.parametrize("name", ["rskip-2", "pre"])
def test_a_watched_connection_takes_its_steps_one_by_one(name):
    reference, fast = pair(name)
    seen = []
    for model in (reference, fast):
        skip = model.encoder.layers[0].final_layer_norm.skip
        skip.register_forward_hook(lambda module, inputs, total: seen.append(total))
        model(*batch(), features_only=True)
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=2e-5)


def test_activation_checkpointing_draws_the_same_dropout_again():
    kept, recomputed = (
        build("transformer_rskip", "--dropout", "0.3", *flags)
        for flags in ((), ("--checkpoint-activations",))
    )
    found = []
    for model in (kept, recomputed):
        torch.manual_seed(5)
        found.append(features_and_gradients(model))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(found[0][1].values(), found[1][1].values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model = build("transformer_rskip", "--dropout", "0.3").eval()
    assert torch.equal(model(*batch())[0], model(*batch())[0])
    model.train()
    assert not torch.equal(model(*batch())[0], model(*batch())[0])


def test_dropping_everything_leaves_the_skip():
    fast = build(
        "transformer_rskip", "--dropout", "1.0", "--skip-type", "plain", "--encoder-normalize-before"
    )
    features, _ = fast(*batch(), features_only=True)
    assert features.isfinite().all()


def test_an_unknown_form_is_refused():
    with pytest.raises(UserError, match="--kernels quick: valid are fast, reference"):
        build("transformer_rskip", "--kernels", "quick")
