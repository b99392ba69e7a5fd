"""Encoders with ``--encoder-solver``: the loop, what is shared, what it starts as, and what is refused."""

from importlib import import_module

import pytest
import torch
from torch import nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models.stacks import SkipDecoder
from skipln_fairseq.nn import SOLVERS
from tests.models.test_mixing import PRE, gradients, model
from tests.support.build import assert_padding_never_leaks, batch, build

SOLVING = [name for name in SOLVERS if name != "none"]


def solved(solver, *flags):
    """In evaluation, its coefficients away from where they start."""
    made, generator = model("--encoder-solver", solver, *flags), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ".solver." in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made


@pytest.mark.parametrize(
    ("solver", "mixing"),
    [
        (name, how)
        for name in SOLVING
        for how in ("none", "dlcl")
        if how == "none" or not SOLVERS[name].remembers
    ],
)
def test_a_real_encoder_solves_as_the_oracle(solver, mixing):
    """The stack's loop, with the real block for E; the mixing stands before the first application alone."""
    flags = ["--ema-per-block"] if solver.startswith(("ema", "pc")) else []
    made = solved(solver, "--encoder-depth-mixing", mixing, *flags).double()
    source, lengths, _ = batch()
    mask = source.eq(1)
    solve = import_module(f"tests.oracles.solver.{solver.replace('-', '_')}").solve
    x, _ = made.encoder.forward_embedding(source)
    x, memory, history = x.masked_fill(mask[:, :, None], 0).transpose(0, 1), [], []
    for layer in made.encoder.layers:

        def once(y, layer=layer):
            y = layer.attend_to_itself(torch.from_numpy(y), mask, None)
            return layer.feed_forward(y, mask).detach().numpy()

        numbers = {name: value.detach().numpy() for name, value in layer.solver.named_parameters()}
        more = {"per_block": True} if flags else {}
        if layer.solver.remembers:
            norms = [
                lambda v, norm=norm: norm(torch.from_numpy(v)).detach().numpy() for norm in layer.solver.norms
            ]
            more |= {"history": history, "norms": norms}
        start = layer.self_attn_mixing(x, memory).detach().numpy()
        x = torch.from_numpy(solve(once, start, numbers, **more))
    expected = made.encoder.layer_norm(made.encoder.end_mixing(x, memory))
    found = made.encoder(source, lengths)["encoder_out"][0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVING)
def test_a_solver_checkpoints_scripts_and_leaves_the_decoder(solver):
    again = solved(solver, "--checkpoint-activations", "--export")
    plain = solved(solver, "--export")
    plain.load_state_dict(again.state_dict())
    assert type(again.decoder) is SkipDecoder
    expected = gradients(plain)
    for name, value in gradients(again).items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert all(value.abs().max() > 0 for name, value in expected.items() if ".solver." in name)
    scripted = torch.jit.script(plain)
    torch.testing.assert_close(scripted(*batch())[0], plain(*batch())[0], rtol=1e-4, atol=1e-5)
    assert_padding_never_leaks(plain, rtol=1e-4, atol=1e-5)


class Both(nn.Module):
    """What a solver reads for the last application of its block, and what it writes then."""

    def __init__(self, solver):
        super().__init__()
        self.solver = solver

    def forward(self, y, outputs):
        memory = []
        return self.solver.read(y, list(outputs[:-1]), memory), self.solver(y, list(outputs), memory)


@pytest.mark.parametrize("solver", SOLVING)
def test_a_solvers_gradient_is_the_derivative(solver):
    one = solved(solver).encoder.layers[0].solver.double()
    names, parameters = zip(*one.named_parameters(), strict=True) if list(one.parameters()) else ((), ())
    tensors = [torch.randn(2, 16, dtype=torch.float64) for _ in range(1 + one.stages)]
    both = Both(one)

    def call(y, *rest):
        outputs, numbers = rest[: one.stages], dict(zip(names, rest[one.stages :], strict=True))
        numbers = {f"solver.{name}": number for name, number in numbers.items()}
        return torch.func.functional_call(both, numbers, (y, outputs))

    assert torch.autograd.gradcheck(call, tuple(each.requires_grad_() for each in (*tensors, *parameters)))


def test_which_blocks_share_their_coefficients():
    def owners(*flags):
        layers = build("transformer_rskip", *PRE, *flags).encoder.layers
        return {id(parameter) for layer in layers for parameter in layer.solver.parameters()}

    assert len(owners("--encoder-solver=rk2-gated")) == 2  # w and b
    assert len(owners("--encoder-solver=ema4")) == 1
    assert len(owners("--encoder-solver=ema2", "--ema-per-block")) == 3
    apart = 2 + 2 * 2  # of pc2 in each block: both rows of weights, two LayerNorms
    assert len(owners("--encoder-solver=pc2")) == 3 * apart + 1
    assert len(owners("--encoder-solver=pc4", "--ema-per-block")) == 3 * (apart + 1)


def test_coefficients_start_as_published():
    (alpha,) = build("transformer_rskip", *PRE, "--encoder-solver=ema2").encoder.layers[0].solver.parameters()
    assert alpha.item() == 0.5
    for number, layer in enumerate(build("transformer_rskip", *PRE, "--encoder-solver=pc4").encoder.layers):
        assert layer.solver.alpha.item() == 0.5
        mean = torch.full((number + 2,), 1 / (number + 2))
        assert torch.equal(layer.solver.predicted, mean)
        assert torch.equal(layer.solver.corrected, mean)
    gate = build("transformer_rskip", *PRE, "--encoder-solver=rk2-gated").encoder.layers[0].solver
    assert gate.bias.item() == 0
    bound = (6 / (2 * 16 + 1)) ** 0.5
    assert 0.8 * bound < gate.weight.abs().max() <= bound


def test_a_dropped_layer_and_a_pruned_one_may_have_a_solver():
    made = build("transformer_rskip", *PRE, "--encoder-solver=rk2", "--encoder-layerdrop=0.5").train()
    assert made(*batch())[0].isfinite().all()
    assert (
        len(
            build(
                "transformer_rskip", *PRE, "--encoder-solver=rk2", "--encoder-layers-to-keep=0,2"
            ).encoder.layers
        )
        == 2
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--encoder-solver rk3", "--encoder-solver rk3: valid are none, "),
        (
            "--encoder-solver rk2 --skip-norm batch",
            "rk2 does not go with --skip-type plain --skip-norm batch",
        ),
        (
            "--encoder-solver rk2 --skip-type admin --norm-placement post",
            "does not go with --skip-type admin",
        ),
        ("--encoder-solver rk2 --depth-mixing attention", "--depth-mixing attention: valid there are none"),
        (
            "--encoder-solver pc2 --norm-placement post",
            "pc2 does not go with --skip-type plain --skip-norm layer",
        ),
        ("--encoder-solver pc2 --encoder-depth-mixing dlcl", "--depth-mixing dlcl: valid there are none"),
        (
            "--encoder-solver pc4 --encoder-layerdrop 0.1",
            "--encoder-layerdrop does not go with --encoder-solver pc4",
        ),
        ("--encoder-solver pc4 --encoder-layers-to-keep 0,1", "--encoder-layers-to-keep does not go with"),
        ("--encoder-solver rk2 --ema-per-block", "it belongs to --encoder-solver ema2"),
        ("--encoder-solver ema2 --decoder-ema-per-block", "--decoder-ema-per-block has no meaning"),
        ("--encoder-solver rk4 --checkpoint-activations --offload-activations", "--encoder-solver rk4"),
    ],
)
def test_what_a_solver_does_not_go_with_is_refused_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *PRE, *flags.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
