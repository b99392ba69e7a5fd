"""``--connection-form``: the authors' form of a method, and the one that this plugin had first."""

from copy import copy
from functools import partial

import numpy as np
import pytest
import torch
from fairseq.checkpoint_utils import load_model_ensemble
from fairseq.models import ARCH_MODEL_REGISTRY
from torch import nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import resume
from skipln_fairseq.models.flags import connections
from skipln_fairseq.nn import build_connection, build_end
from skipln_fairseq.nn.norm.power import PowerNorm
from skipln_fairseq.nn.placement.sub import subln_gains
from tests import oracles
from tests.models.test_language_model import parse as parse_lm
from tests.support.build import LAST, MIDDLE, Task, batch, build, parse, wiring
from tests.support.commands import TRAIN, run

DIM = 6
FIRST = ("--connection-form", "first")
ONE_UPDATE = ("--max-update", "1", "--disable-validation")
SUB = ("--skip-type", "plain", "--norm-placement", "sub")


def tensors(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 3, DIM, generator=generator, dtype=torch.float64)


def numbered(model):
    """The model with parameters that follow from their names' order alone, in double precision."""
    model.double().eval()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(model.named_parameters(remove_duplicate=False))):
            places = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter)
            gain = float("layer_norm" in name and name.endswith("weight"))
            parameter.copy_(gain + 0.3 * torch.sin(places + 0.7 * number))
    return model


def without_form(*flags):
    """The model of a checkpoint that was stored before there was the flag."""
    args = parse("transformer_rskip", *flags)
    del args.connection_form
    return ARCH_MODEL_REGISTRY["transformer_rskip"].build_model(args, Task())


def logits(model):
    with torch.no_grad():
        return model(*batch())[0][0, 0, 4:7].tolist()


OLD = {
    "--skip-type plain --norm-placement sub": (
        113,
        [-1.6796098324648625, 1.5808875254524903, -1.348294019684245],
    ),
    "--skip-type rezero": (79, [-1.246987316697309, 1.964574475758315, -2.515799426325279]),
    "--skip-type dual": (93, [-0.13649496677461798, 0.40813492741054536, -0.645213598196993]),
    "--skip-type b2t": (89, [1.3830503275705484, -1.3600732048518838, 1.221923669549882]),
    "--skip-type plain --skip-norm power": (
        119,
        [3.535166279851634, -3.044508451029968, 2.296038482255391],
    ),
}


@pytest.mark.parametrize("flags", OLD)
def test_checkpoints_from_before_the_flag_give_what_they_gave(flags):
    """The numbers, and how many parameters there are, are those of the release before the flag."""
    model = numbered(without_form(*flags.split()))
    count, numbers = OLD[flags]
    assert len(model.state_dict()) == count
    assert logits(model) == pytest.approx(numbers, rel=1e-9)
    assert logits(numbered(build("transformer_rskip", *flags.split(), *FIRST))) == logits(model)


@pytest.fixture(scope="module")
def older_checkpoint(data, tmp_path_factory):
    """A checkpoint file by flags, of the first form and without the flag, and the model that it was stored from."""

    def train(flags):
        folder = tmp_path_factory.mktemp("checkpoint")
        file = folder / "checkpoint_last.pt"
        run("fairseq-train", data, *TRAIN, *flags.split(), *FIRST, *ONE_UPDATE, "--save-dir", folder)
        (stored,), _ = load_model_ensemble([str(file)], {"data": str(data)})
        state = torch.load(file, weights_only=False)
        del state["cfg"]["model"].connection_form
        torch.save(state, file)
        return file, stored

    return train


@pytest.mark.parametrize("flags", OLD)
def test_a_checkpoint_file_from_before_the_flag_is_the_model_that_it_was(flags, older_checkpoint, data):
    file, stored = older_checkpoint(flags)
    (loaded,), _ = load_model_ensemble([str(file)], {"data": str(data)})
    loaded.eval(), stored.eval()
    assert torch.equal(loaded(*batch())[0], stored(*batch())[0])
    assert connections(loaded.args) == connections(stored.args)
    args = copy(stored.args)
    args.connection_form = "authors"
    assert connections(loaded.args) != connections(args)


def test_a_run_from_before_the_flag_resumes_with_the_first_form_alone(older_checkpoint, data):
    file, _ = older_checkpoint("--skip-type rezero")
    resumed = [data, *TRAIN, "--skip-type", "rezero", "--max-update", "2", "--disable-validation"]
    resumed += ["--save-dir", file.parent]
    refused = run("fairseq-train", *resumed, succeeds=False)
    assert "--connection-form first → authors" in refused.output
    run("fairseq-train", *resumed, *FIRST)
    assert torch.load(file, weights_only=False)["optimizer_history"][-1]["num_updates"] == 2


def test_a_form_that_is_none_is_refused():
    with pytest.raises(UserError, match="--connection-form foo: valid are authors, first"):
        connections(parse("transformer_rskip", "--connection-form", "foo"))


@pytest.mark.parametrize(
    "flags",
    ["--skip-type plain --norm-placement sub", "--skip-type rezero", "--skip-type dual", "--skip-norm power"],
)
def test_resuming_an_older_run_names_the_flag(flags):
    now = parse("transformer_rskip", *flags.split())
    then = parse("transformer_rskip", *flags.split())
    del then.connection_form
    assert "--connection-form first → authors" in resume._changes(then, now).connections
    now = parse("transformer_rskip", *flags.split(), *FIRST)
    assert resume._changes(then, now).connections == []


# Sub-LN


@pytest.mark.parametrize("form", ["authors", "first"])
def test_a_sub_ln_decoder_layer_equals_the_oracle(form):
    """With one position each attention is W_out N(W_v h): cross-attention has the inner norm in ``first`` alone.

    The backward is held by finite differences of the oracle along random directions.
    """
    model = numbered(build("transformer_rskip", *SUB, "--activation-fn", "linear", "--connection-form", form))
    layer = model.decoder.layers[0]
    for linear in (m for m in layer.modules() if isinstance(m, nn.Linear)):
        nn.init.zeros_(linear.bias)
    x, memory, g = torch.randn(3, 1, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, memory = x.requires_grad_(), memory.requires_grad_()

    def norm(module):
        parameters = {name: value.detach().numpy() for name, value in module.named_parameters(recurse=False)}
        return partial(oracles.layer_norm, **parameters)

    def matrix(linear):
        return linear.weight.detach().numpy()

    assert hasattr(layer.encoder_attn.out_proj, "norm") == (form == "first")

    def oracle(x, memory):
        own, cross = layer.self_attn, layer.encoder_attn
        x = oracles.sub_ln(
            x,
            (matrix(own.v_proj), matrix(own.out_proj)),
            (norm(layer.self_attn_layer_norm), norm(own.out_proj.norm)),
        )
        values = memory @ matrix(cross.v_proj).T
        values = norm(cross.out_proj.norm)(values) if form == "first" else values
        x = x + values @ matrix(cross.out_proj).T
        return oracles.sub_ln(
            x,
            (matrix(layer.fc1), matrix(layer.fc2)),
            (norm(layer.final_layer_norm), norm(layer.fc2.norm)),
        )

    y, *_ = layer(x, memory)
    np.testing.assert_allclose(
        y.detach().numpy(), oracle(x.detach().numpy(), memory.detach().numpy()), rtol=0, atol=1e-12
    )
    y.backward(g)
    for number, of in enumerate((x, memory)):
        direction = np.random.default_rng(number).standard_normal(of.shape)
        points = [x.detach().numpy(), memory.detach().numpy()]
        ends = []
        for sign in (1, -1):
            moved = list(points)
            moved[number] = points[number] + sign * 1e-6 * direction
            ends.append((g.numpy() * oracle(*moved)).sum())
        slope = (ends[0] - ends[1]) / 2e-6
        assert (of.grad.numpy() * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def gains(*flags):
    """By what the authors' form multiplies what the first form drew: for each parameter that is no constant."""
    ours, first = (build("transformer_rskip", *flags, *form) for form in ((), FIRST))
    drawn = dict(first.named_parameters())
    return {
        name: (parameter / drawn[name]).nanmedian().item()
        for name, parameter in ours.named_parameters()
        if drawn[name].std() > 0
    }


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((3, 2), {"encoder": 1.034473, "decoder": 1.338566}),  # √(ln 6 · ln 6 / 3) and √ln 6
        ((3, 0), {"encoder": 1.338566}),
        ((0, 2), {"decoder": 1.177410}),  # √ln 4
        ((0, 0), {}),
    ],
)
def test_sub_ln_has_the_authors_gains(layers, expected):
    assert subln_gains(*layers) == pytest.approx(expected, abs=1e-6)


def test_sub_ln_starts_with_them():
    expected = {"encoder": 1.034473, "decoder": 1.338566}
    seen = set()
    for name, gain in gains(*SUB, "--encoder-layers", "3").items():
        kind = name.split(".")[-2]
        if ".layers." in name and "encoder_attn" not in name and kind in ("v_proj", "out_proj", "fc1", "fc2"):
            side = name.partition(".")[0]
            seen.add((side, kind))
            assert gain == pytest.approx(expected[side], abs=2e-6), name
        else:
            assert gain == 1, name
    assert len(seen) == 2 * 4


# PowerNorm


def test_power_norm_models_have_the_authors_form_with_a_group_for_each_head():
    flags = ("--skip-type", "plain", "--skip-norm", "power", "--encoder-attention-heads", "4")
    for form, encoder, decoder in (("authors", 4, 2), ("first", 0, 0)):
        model = build("transformer_rskip", *flags, "--connection-form", form)
        norms = {
            side: {m for m in getattr(model, side).modules() if isinstance(m, PowerNorm)}
            for side in ("encoder", "decoder")
        }
        assert {side: len(found) for side, found in norms.items()} == {"encoder": 4, "decoder": 6}
        for side, groups in (("encoder", encoder), ("decoder", decoder)):
            assert {getattr(norm.scaling, "groups", 0) for norm in norms[side]} == {groups}
            assert {norm.published for norm in norms[side]} == {form == "authors"}
    of_lm = parse_lm("transformer_lm_rskip", "--skip-norm=power", "--decoder-attention-heads=8")
    assert dict(connections(of_lm)["decoder"].ffn.norm_options)["groups"] == 8


# ReZero


@pytest.mark.parametrize("form", ["authors", "first"])
def test_rezero_equals_the_oracle_with_one_alpha_and_with_one_each(form):
    shared, config = form == "authors", wiring("rezero", "none", form=form)
    made = [build_connection(DIM, config)]
    made += [build_connection(DIM, config, **position, first=made[0]) for position in (MIDDLE, LAST)]
    layer = nn.ModuleList(made).double()
    alphas = [0.3] * 3 if shared else [0.3, -0.2, 0.7]
    for connection, alpha in zip(layer, alphas, strict=True):
        nn.init.constant_(connection.skip.scale, alpha)
    x, g, *branches = tensors(5)
    stream = x
    for connection, f_x in zip(layer, branches, strict=True):
        stream = connection.leave(f_x, stream)
    stream.backward(g)
    expected = oracles.rezero(x.numpy(), [f.numpy() for f in branches], alphas)
    np.testing.assert_allclose(stream.detach().numpy(), expected, rtol=0, atol=1e-13)
    each = oracles.rezero_backward([f.numpy() for f in branches], g.numpy())
    found = [parameter.grad.item() for parameter in layer.parameters()]
    assert found == pytest.approx([sum(each)] if shared else each, rel=1e-12)


def test_a_rezero_model_has_one_alpha_a_layer():
    count = {
        form: sum("skip.scale" in name for name, _ in build("transformer_rskip", *flags).named_parameters())
        for form, flags in {
            "authors": ("--skip-type", "rezero"),
            "first": ("--skip-type", "rezero", *FIRST),
        }.items()
    }
    assert count == {"authors": 4, "first": 10}


# ResiDual


@pytest.mark.parametrize(("form", "eps"), [("authors", 1e-7), ("first", 1e-5)])
def test_the_end_of_residual_equals_the_oracle(form, eps):
    """The second half's deviation is a thousandth, so that the two values of eps differ by far."""
    end = build_end(DIM, wiring("dual", form=form)).double()
    p, d, g = tensors(3)
    stream = torch.cat((p, 1e-3 * d), -1).requires_grad_()
    y = end(stream)
    y.backward(g)
    numbers = {"weight": 1.0, "bias": 0.0, "eps": eps}
    expected = p.numpy() + oracles.layer_norm(1e-3 * d.numpy(), **numbers)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=0, atol=1e-12)
    g_d = oracles.layer_norm_backward(1e-3 * d.numpy(), g.numpy(), **numbers)
    np.testing.assert_allclose(stream.grad[..., DIM:].numpy(), g_d, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(stream.grad[..., :DIM].numpy(), g.numpy())


def test_residual_models_have_the_authors_eps_at_both_ends_and_nowhere_else():
    flags = ("--skip-type", "dual")
    for form, expected in (("authors", 1e-7), ("first", 1e-5)):
        model = build("transformer_rskip", *flags, "--connection-form", form)
        assert {side.layer_norm.norm.eps for side in (model.encoder, model.decoder)} == {expected}
        assert model.decoder.layers[0].final_layer_norm.eps == 1e-5
    # a norm that is not LayerNorm keeps its own
    model = build("transformer_rskip", *flags, "--skip-norm", "rms")
    assert model.encoder.layer_norm.norm.eps == 1e-6


# B2T


def test_b2t_starts_with_matrices_divided_by_the_root_of_the_layers():
    seen = 0
    for name, gain in gains("--skip-type", "b2t", "--encoder-layers", "3").items():
        if ".layers." in name and name.endswith("weight"):
            assert gain == pytest.approx({"encoder": 3, "decoder": 2}[name.partition(".")[0]] ** -0.5), name
            seen += 1
        else:
            assert gain == 1, name
    assert seen == 3 * 6 + 2 * 10
