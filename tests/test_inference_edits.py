"""A prepared model that is changed decodes as if it had been changed before it was prepared."""

import copy

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import parametrize, prune

from skipln_fairseq.errors import UserError
from skipln_fairseq.models import engine, inference, snapshot
from skipln_fairseq.models.snapshot import Snapshot
from tests.build import batch, build
from tests.emulated_tiles import tiles_or_their_like
from tests.test_generator import sharpened
from tests.test_inference import in_one_call, translations

# in the other types nothing is prepared without tiles
KINDS = [("tiles", "fp32"), ("tiles", "bf16"), ("tiles", "int8"), ("no tiles", "int8")]


@pytest.fixture(scope="module", params=["tiles", "no tiles"])
def processor(request, tmp_path_factory):
    """With matrix tiles and without, whatever this one has."""
    if request.param == "tiles":
        with tiles_or_their_like(tmp_path_factory.mktemp("cache")):
            yield True
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "has_tiles", lambda: False)
        patch.setattr(inference, "has_tiles", lambda: False)
        yield False


def made(*flags, kind="fp32", seed=1):
    model = sharpened(build("transformer_rskip", "--skip-order", "2", *flags, seed=seed))
    model.inference_type = kind
    return model


def drawn(tensor, seed=3):
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).to(tensor.dtype)


def layer(model):
    return model.decoder.layers[0]


def every_layer(model):
    return [*model.encoder.layers, *model.decoder.layers]


EDITS = {}


def edit(function):
    EDITS[function.__name__] = function
    return function


@edit
@torch.no_grad()
def parameters_zeroed_in_place(model):
    for parameter in layer(model).parameters():
        parameter.zero_()


@edit
def parameters_zeroed_through_data(model):
    for parameter in layer(model).parameters():
        parameter.data.zero_()


@edit
@torch.no_grad()
def parameters_copied_into(model):
    layer(model).fc1.weight.copy_(drawn(layer(model).fc1.weight))


@edit
def data_replaced(model):
    layer(model).fc1.weight.data = drawn(layer(model).fc1.weight)


@edit
def rows_through_data_swapped(model):
    weight = layer(model).fc2.weight.data
    weight[[0, 3]] = weight[[3, 0]]


@edit
def one_number_through_data(model):
    layer(model).fc1.weight.data[3, 5] = 40.0


@edit
def a_number_through_numpy(model):
    layer(model).encoder_attn.v_proj.weight.detach().view(torch.int16).numpy()[2, 7] = 0x4300


@edit
def an_optimizers_step(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = drawn(parameter)
    optimizer.step()


@edit
@torch.no_grad()
def heads_masked_by_rows(model):
    for one in every_layer(model):
        for projection in (one.self_attn.q_proj, one.self_attn.k_proj, one.self_attn.v_proj):
            projection.weight[:8] = 0
            projection.bias[:8] = 0


@edit
def heads_masked_by_columns(model):
    for one in model.decoder.layers:
        one.encoder_attn.out_proj.weight.data[:, 8:] = 0


@edit
@torch.no_grad()
def an_embedding(model):
    model.decoder.embed_tokens.weight.mul_(-1)


@edit
def a_norms_gain_through_data(model):
    layer(model).final_layer_norm.skip.norms[0].weight.data[3] = 9.0


@edit
def pruned(model):
    torch.manual_seed(3)
    for one in every_layer(model):
        prune.l1_unstructured(one.fc1, "weight", amount=0.6)
        prune.random_structured(one.self_attn.v_proj, "weight", amount=0.5, dim=0)


@edit
def pruned_for_good(model):
    for one in every_layer(model):
        prune.l1_unstructured(one.fc2, "weight", amount=0.7)
        prune.remove(one.fc2, "weight")


@edit
def a_function_applied(model):
    @torch.no_grad()
    def halved(module):
        if isinstance(module, nn.Linear):
            module.weight.mul_(0.5)

    model.apply(halved)


@edit
def a_new_parameter(model):
    linear = layer(model).self_attn.k_proj
    linear.weight = nn.Parameter(drawn(linear.weight))


@edit
def a_replaced_map(model):
    torch.manual_seed(5)
    layer(model).fc1 = nn.Linear(16, 32, dtype=layer(model).fc1.weight.dtype)


@edit
def a_map_of_another_class(model):
    class Negative(nn.Linear):
        def forward(self, x):
            return -super().forward(x)

    torch.manual_seed(5)
    model.encoder.layers[0].fc1 = Negative(16, 32, dtype=layer(model).fc1.weight.dtype)
    layer(model).encoder_attn.q_proj = Negative(16, 16, dtype=layer(model).fc1.weight.dtype)


@edit
def a_replaced_layer(model):
    other = made(seed=9).to(layer(model).fc1.weight.dtype)
    model.decoder.layers[0], model.encoder.layers[1] = other.decoder.layers[0], other.encoder.layers[1]


@edit
def layers_changed_about(model):
    layers = model.decoder.layers
    layers[0], layers[1] = layers[1], layers[0]


@edit
def a_layer_taken_out(model):
    del model.decoder.layers[0]


@edit
def a_layer_put_in(model):
    other = made(seed=9).to(layer(model).fc1.weight.dtype)
    model.decoder.layers.append(other.decoder.layers[0])
    model.encoder.layers.insert(0, other.encoder.layers[1])


@edit
def a_copied_layer_put_in(model):
    model.decoder.layers.append(copy.deepcopy(model.decoder.layers[0]))
    model.encoder.layers.insert(0, copy.deepcopy(model.encoder.layers[1]))


@edit
def a_norm_taken_out_of_the_recursion(model):
    for one in model.decoder.layers:
        one.final_layer_norm.skip.norms = nn.ModuleList()


@edit
def another_norm(model):
    layer(model).self_attn_layer_norm.skip.norms[0] = Halves()


class Halves(nn.Module):
    def forward(self, v, padding_mask=None):
        return v / 2


@edit
def quantised(model):
    return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@edit
def a_side_loaded(model):
    other = made(seed=7).to(layer(model).fc1.weight.dtype)
    model.decoder.load_state_dict(other.decoder.state_dict())


@edit
def all_loaded(model):
    model.load_state_dict(made(seed=7).state_dict())


@edit
def loaded_by_assignment(model):
    other = made(seed=7).to(layer(model).fc1.weight.dtype)
    model.encoder.load_state_dict(other.encoder.state_dict(), assign=True)


@edit
def averaged_in_place(model):
    for parameter, other in zip(model.parameters(), made(seed=7).parameters(), strict=True):
        parameter.data.add_(other.data).div_(2)


@edit
def averaged_by_torch(model):
    other = made(seed=7).to(layer(model).fc1.weight.dtype)
    with torch.no_grad():
        torch._foreach_lerp_(list(model.parameters()), list(other.parameters()), 0.5)


@edit
def moved_there_and_back(model):
    model.to("cpu")
    model.decoder.double().to(model.encoder.layers[0].fc1.weight.dtype)


@edit
def parametrised(model):
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    parametrize.register_parametrization(layer(model).fc1, "weight", Twice())
    parametrize.register_parametrization(layer(model).encoder_attn.k_proj, "weight", Twice())


@edit
def with_weight_norm(model):
    for linear in (layer(model).fc2, model.encoder.layers[0].fc1):
        nn.utils.parametrizations.weight_norm(linear)
        linear.parametrizations.weight.original0.data.mul_(3)


@edit
def with_the_old_weight_norm(model):
    linear = nn.utils.weight_norm(layer(model).fc2)
    linear.weight_g.data.mul_(3)


@edit
def a_forward_hook(model):
    layer(model).register_forward_hook(lambda module, args, out: (2 * out[0], *out[1:]))


@edit
def a_forward_hook_on_a_map(model):
    model.encoder.layers[0].fc1.register_forward_hook(lambda module, args, out: -out)
    layer(model).fc2.register_forward_hook(lambda module, args, out: -out)


@edit
def a_forward_hook_on_a_norm(model):
    layer(model).final_layer_norm.skip.norms[0].register_forward_hook(lambda module, args, out: -out)


@edit
def a_forward_pre_hook(model):
    layer(model).fc1.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


@edit
def a_forward_put_in(model):
    for linear in (layer(model).fc1, model.encoder.layers[1].fc2):
        linear.forward = lambda x, stock=nn.Linear.forward, linear=linear: -stock(linear, x)


@edit
def a_norms_forward_put_in(model):
    norm = layer(model).final_layer_norm.skip.norms[0]
    norm.forward = lambda v, padding_mask=None: v / 2


@edit
def an_activation(model):
    layer(model).activation_fn = torch.tanh


@edit
def an_eps(model):
    layer(model).final_layer_norm.eps = 3.0


@edit
def a_scale(model):
    model.decoder.embed_scale = 1.5


@edit
def positions(model):
    model.decoder.embed_positions.weights.data.mul_(-1)


@edit
def the_decoders_forward(model):
    stock = model.decoder.forward

    def forward(*args, **kwargs):
        logits, extra = stock(*args, **kwargs)
        return logits.flip(-1), extra

    model.decoder.forward = forward


@edit
def a_hook_on_every_module(model):
    nn.modules.module._global_forward_hooks.clear()  # one is enough for two models
    nn.modules.module.register_module_forward_hook(
        lambda module, args, out: -out if getattr(module, "out_features", 0) == 32 else None
    )


@pytest.fixture(autouse=True)
def _no_hooks_of_every_module():
    yield
    nn.modules.module._global_forward_hooks.clear()


SPARSE = ("one_number_through_data", "a_number_through_numpy")
UNCHANGED = ("moved_there_and_back",)
# fairseq's preparation takes it away; two copies of fairseq's attention have one cache; its attention is not quantised
NO_TWIN, NO_REFERENCE = ("with_the_old_weight_norm",), ("a_copied_layer_put_in", "quantised")


def prepared(kind, monkeypatch, name):
    """A model that has decoded, and its translations; what few numbers change is seen at the next reading of all."""
    if name in SPARSE:
        monkeypatch.setattr(snapshot, "BREAK", 0)
    model = made(kind=kind)
    model.make_generation_fast_()
    return model, translations(model)


def edited(model, name):
    return EDITS[name](model) or model


@pytest.mark.parametrize("name", sorted(set(EDITS) - {*NO_TWIN}))
@pytest.mark.parametrize(("processor", "kind"), KINDS, indirect=["processor"])
def test_what_is_changed_is_decoded_with(name, kind, processor, monkeypatch):
    model, before = prepared(kind, monkeypatch, name)
    assert in_one_call(model) == processor
    model = edited(model, name)
    found = translations(model)
    twin = made(kind=kind)
    twin = edited(twin, name)
    twin.make_generation_fast_()
    assert found == translations(twin)
    assert (found != before) == (name not in UNCHANGED)
    assert translations(model) == found


@torch.no_grad()
def logits(model):
    """Of each step of a decoding, and of all positions at once."""
    source, lengths, target = batch()
    out, state = model.encoder(source, lengths), {}
    steps = [
        model.decoder(target[:, : step + 1], encoder_out=out, incremental_state=state)[0] for step in range(4)
    ]
    return torch.cat(steps, 1), model(source, lengths, target)[0][:, :4]


@pytest.mark.parametrize("name", sorted(set(EDITS) - {*NO_REFERENCE}))
def test_what_is_changed_is_what_the_reference_decodes(name, processor, monkeypatch):
    model, _ = prepared("fp32", monkeypatch, name)
    before = logits(model)
    reference = made("--kernels", "reference")
    found, expected = (logits(edited(one, name).eval()) for one in (model, reference))
    for ours, theirs, earlier in zip(found, expected, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
        assert torch.equal(ours, earlier) == (name in UNCHANGED)


@torch.no_grad()
def test_quantised_maps_are_near_those_that_they_were_made_of(processor, monkeypatch):
    model, _ = prepared("fp32", monkeypatch, "quantised")
    before = logits(model)
    for ours, theirs in zip(logits(edited(model, "quantised")), before, strict=True):
        assert 0 < (ours - theirs).square().mean().sqrt() <= 6e-2 * theirs.std()


@pytest.mark.parametrize("change", ["half", "bfloat16", "double"])
def test_eight_bits_are_of_float32_alone(change, processor, monkeypatch):
    model, _ = prepared("int8", monkeypatch, change)
    with pytest.raises(UserError, match="--int8 is for models in float32"):
        getattr(model, change)()


def test_a_hook_that_is_removed_leaves_a_quick_model(processor, monkeypatch):
    model, before = prepared("fp32", monkeypatch, "")
    calls = []
    hook = layer(model).register_forward_hook(lambda *_: calls.append(1))
    assert translations(model)
    assert calls
    assert not in_one_call(model)
    hook.remove()
    assert translations(model) == before
    assert in_one_call(model) == processor


def test_a_forward_that_is_put_back_decodes_as_before(processor, monkeypatch):
    model, before = prepared("fp32", monkeypatch, "")
    stock = model.decoder.forward
    edited(model, "the_decoders_forward")
    assert translations(model) != before
    model.decoder.forward = stock
    close = [[(round(score, 2), *words) for score, *words in each] for each in before]
    found = translations(model)
    assert [[(round(score, 2), *words) for score, *words in each] for each in found] == close


def test_what_is_unchanged_is_not_prepared_again(processor, monkeypatch):
    model, _ = prepared("int8", monkeypatch, "")
    first = model._preparation
    for sentences in (3, 5):
        model(*batch(sentences=sentences, target_length=sentences + 8))
        translations(model)
    assert model._preparation is first


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (8, 8), (32, 16), (16, 32), (30, 12), (3, 9), (5, 1)])
def test_each_row_and_each_column_is_looked_at(rows, columns):
    linear = nn.Linear(columns, rows)
    for pick in [*((row,) for row in range(rows)), *((slice(None), column) for column in range(columns))]:
        taken = Snapshot(linear)
        taken._next = float("inf")
        assert taken.holds()
        linear.weight.data[pick] += 1
        assert not taken.holds()


def test_a_value_that_is_no_number_is_unchanged():
    linear = nn.Linear(4, 3)
    linear.weight.data[1, 2] = torch.nan
    taken = Snapshot(linear)
    taken._next = 0
    assert taken.holds()
