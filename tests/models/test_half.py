"""Half precision: every choice is its oracle within rounding, and what is small or exponential is in single precision.

That is gates, softmax over depths and Sinkhorn's steps: a number near 0 or 1 needs more digits than bfloat16 has.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from skipln_fairseq.models.family import example
from skipln_fairseq.nn import EMBEDDINGS, MIXINGS, QK_NORMS, SKIPS, SOLVERS, SOURCES, STARTS, VALUES
from skipln_fairseq.nn.valid import valid_norms, valid_placements
from tests.support.build import batch, build
from tests.support.oracle_stack import CASES, DIM, MIXING_OPTIONS, SOLVER_OPTIONS, Stack, config

INNER = {"softmax", "log_softmax", "logsumexp", "exp", "sigmoid", "silu", "tanh", "erf"}
# functions of every feature of the activations, which are no gates of a token, and stay in the activations' precision
OF_EACH_FEATURE = {"dyt.py", "derf.py", "bhyt.py", "highway.py"}
ONE_OF_EACH = [case for case in CASES if case[0] == "plain" or case[1] == valid_norms(case[0])[0]]
BETWEEN = [
    *((name, "none") for name in MIXINGS if name != "none"),
    *(("none", name) for name in SOLVERS if name != "none"),
]
# of the largest number: the digits of the type, and what four to eight sub-layers make of them
ROUNDING = {torch.bfloat16: 0.08, torch.float16: 0.008}


class Watched(TorchFunctionMode):
    """Notes the files of ``nn`` that compute an inner quantity in half precision."""

    def __init__(self):
        super().__init__()
        self.half = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        frame = sys._getframe(1)
        while "torch" in Path(frame.f_code.co_filename).parts:
            frame = frame.f_back
        caller = Path(frame.f_code.co_filename)
        name = getattr(function, "__name__", "")
        if name in INNER and "nn" in caller.parts and caller.name not in OF_EACH_FEATURE:
            tensors = [one for one in args if isinstance(one, torch.Tensor)]
            self.half |= {f"{caller.name}: {name}" for one in tensors if one.dtype in ROUNDING}
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def assert_half(stack, dtype):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, DIM, generator=generator).to(dtype)
    for parameter in stack.parameters():
        parameter.copy_(parameter.to(dtype))
    expected = stack.expected(x.double().numpy())
    for module in (stack.modules, stack.end, stack.mixings, stack.solvers):
        module.to(dtype)
    with Watched() as watched:
        found = stack.forward(x)
    assert not watched.half
    assert found.dtype == dtype
    difference = np.abs(found.double().numpy() - expected).max()
    assert difference < ROUNDING[dtype] * np.abs(expected).max(), difference / np.abs(expected).max()


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(("skip", "norm", "placement", "chosen"), ONE_OF_EACH)
def test_a_stack_in_half_precision(skip, norm, placement, chosen, dtype):
    assert_half(Stack(config(skip, norm, placement, **chosen), "decoder"), dtype)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(("mixing", "solver"), BETWEEN)
def test_between_blocks_in_half_precision(mixing, solver, dtype):
    chosen = config("plain", "layer", "pre")
    numbers = tuple(MIXING_OPTIONS.get(mixing, [{}])[0].items())
    steps = tuple(SOLVER_OPTIONS.get(solver, [{}])[0].items())
    chosen = replace(chosen, mixing=mixing, mixing_options=numbers, solver=solver, solver_options=steps)
    assert_half(Stack(chosen, "encoder"), dtype)


OF_MODELS = [
    variant.declaration
    for registry in (QK_NORMS, STARTS, VALUES, SOURCES, EMBEDDINGS)
    for variant in registry.values()
]


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("chosen", OF_MODELS, ids=lambda chosen: f"{chosen.axis} {chosen.choice}")
@torch.no_grad()
def test_a_model_in_half_precision(chosen, dtype):
    """What belongs to attention, embeddings and first weights: the whole model beside itself in single precision."""
    torch.manual_seed(1)
    model = build("transformer_rskip", *example(chosen).split()).eval()
    for parameter in model.parameters():
        parameter.copy_(parameter.to(dtype))
    source, lengths, target = batch()
    expected = model(source, lengths, target)[0]
    with Watched() as watched:
        found = model.to(dtype)(source, lengths, target)[0]
    assert not watched.half
    assert found.dtype == dtype
    difference = (found.float() - expected).abs().max()
    assert difference < ROUNDING[dtype] * expected.abs().max(), difference / expected.abs().max()


def test_all_skip_rules_are_here():
    assert {case[0] for case in ONE_OF_EACH} == set(SKIPS)
    assert {case[1:3] for case in ONE_OF_EACH if case[0] == "plain"} == {
        (norm, placement) for norm in valid_norms("plain") for placement in valid_placements("plain", norm)
    }
