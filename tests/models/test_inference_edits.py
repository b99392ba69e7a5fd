"""A prepared model that is changed decodes as if it had been changed before it was prepared."""

import pytest
import torch
from torch import nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import inference, reading, snapshot
from skipln_fairseq.models.snapshot import Snapshot
from skipln_fairseq.nn.kernels.decode import kind
from tests.models.test_inference import in_one_call, translations
from tests.support.build import batch
from tests.support.edits import EDITS, layer, made

# in the other types nothing is prepared without a compiler
FORMS = [("compiler", "fp32"), ("compiler", "bf16"), ("compiler", "int8"), ("no compiler", "int8")]


@pytest.fixture(scope="module", params=["compiler", "no compiler"])
def compiler(request):
    """With products in C and without."""
    if request.param == "compiler":
        if kind() is None:
            pytest.skip("no C compiler")
        yield True
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "kind", lambda: None)
        patch.setattr(inference, "kind", lambda: None)
        yield False


@pytest.fixture(autouse=True)
def _no_hooks_of_every_module():
    yield
    nn.modules.module._global_forward_hooks.clear()


SPARSE = ("one_number_through_data", "a_number_through_numpy")
UNCHANGED = ("moved_there_and_back",)
# fairseq's preparation takes it away; two copies of fairseq's attention have one cache; its attention is not quantised
NO_TWIN, NO_REFERENCE = ("with_the_old_weight_norm",), ("a_copied_layer_put_in", "quantised")


def prepared(form, monkeypatch, name):
    """A model that has decoded, and its translations; what few numbers change is seen at the next reading of all."""
    if name in SPARSE:
        monkeypatch.setattr(snapshot, "BREAK", 0)
    model = made(kind=form)
    model.make_generation_fast_()
    return model, translations(model)


def edited(model, name):
    return EDITS[name](model) or model


@pytest.mark.parametrize("name", sorted(set(EDITS) - {*NO_TWIN}))
@pytest.mark.parametrize(("compiler", "form"), FORMS, indirect=["compiler"], scope="module")  # compiled once
def test_what_is_changed_is_decoded_with(name, form, compiler, monkeypatch):
    model, before = prepared(form, monkeypatch, name)
    assert in_one_call(model) == compiler
    model = edited(model, name)
    found = translations(model)
    twin = made(kind=form)
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
def test_what_is_changed_is_what_the_reference_decodes(name, compiler, monkeypatch):
    model, _ = prepared("fp32", monkeypatch, name)
    before = logits(model)
    reference = made("--kernels", "reference")
    found, expected = (logits(edited(one, name).eval()) for one in (model, reference))
    for ours, theirs, earlier in zip(found, expected, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
        assert torch.equal(ours, earlier) == (name in UNCHANGED)


@torch.no_grad()
def test_quantised_maps_are_near_those_that_they_were_made_of(compiler, monkeypatch):
    model, _ = prepared("fp32", monkeypatch, "quantised")
    before = logits(model)
    for ours, theirs in zip(logits(edited(model, "quantised")), before, strict=True):
        assert 0 < (ours - theirs).square().mean().sqrt() <= 6e-2 * theirs.std()


@pytest.mark.parametrize("change", ["half", "bfloat16", "double"])
def test_eight_bits_are_of_float32_alone(change, compiler, monkeypatch):
    model, _ = prepared("int8", monkeypatch, change)
    with pytest.raises(UserError, match="--int8 is for models in float32"):
        getattr(model, change)()


def test_a_hook_that_is_removed_leaves_a_quick_model(compiler, monkeypatch):
    model, before = prepared("fp32", monkeypatch, "")
    calls = []
    hook = layer(model).register_forward_hook(lambda *_: calls.append(1))
    assert translations(model)
    assert calls
    assert not in_one_call(model)
    hook.remove()
    assert translations(model) == before
    assert in_one_call(model) == compiler


def test_a_forward_that_is_put_back_decodes_as_before(compiler, monkeypatch):
    model, before = prepared("fp32", monkeypatch, "")
    stock = model.decoder.forward
    edited(model, "the_decoders_forward")
    assert translations(model) != before
    model.decoder.forward = stock
    close = [[(round(score, 2), *words) for score, *words in each] for each in before]
    found = translations(model)
    assert [[(round(score, 2), *words) for score, *words in each] for each in found] == close


def test_what_is_unchanged_is_not_prepared_again(compiler, monkeypatch):
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
