"""Every registered variant in whole stacks, against the oracle of its name: a variant without one fails.

A stack has two layers of two or three sub-layers, each F a tanh and a matrix, all numbers drawn at random, and its
end. An oracle stands in ``oracles/AXIS/NAME.py``, in float64 numpy, written from the paper and not from the package:

* skip: ``stack(x, layers, end, **options)``; a sub-layer has ``f`` (F with the norms that the placement puts around
  it), ``last`` (the norm after the sum, or the identity), ``norms`` (further ones), ``numbers`` (what the rule learns
  or keeps), ``side``, ``layer``, its number from 0, and ``norm_follows``, whether ``last`` is a norm. ``end`` is the
  stack's last norm, or the identity, with ``norms`` and ``numbers`` of its own. Where an option is a choice of words,
  every word has its turn.
* placement: ``wire(before, project, norm, …) -> f, last``: F is project(before(x)). It may ask for ``entry`` and
  ``inner``, the norms that the placement made besides, for ``layer`` and ``layers``, which layer of how many, for the
  ``slot`` (self_attn, cross_attn or ffn), ``side``, and for the placement's options.
* norm: ``norm(v, **numbers)``, the numbers those that it learns, and of its options those that the oracle asks for.
* mixing: ``stack(x, blocks, places, end, normed, **options)``; a block has ``run``, all of it with its skips and norms,
  and ``branches``, the F of each sub-layer alone. ``places`` has a row for each block and one for the end, with
  ``numbers`` and ``norm`` of what stands before each sub-layer. ``normed`` says whether a block ends with a norm.
* solver: ``solve(run, y, numbers, **options)``; ``run`` is a whole block. It may ask for ``history``, a list that is
  empty before the stack's first block, and for the ``norms`` of the solver.
* value, source: in whole models, by ``test_value.py`` and ``test_source.py``.

Gradients are compared too, those of x and of all parameters with the oracles' slope along random directions. What a
paper takes for a constant in the backward is ``held(…)`` in the oracle.

An option takes its value of ``OPTIONS``, or else the middle of what its declaration says is drawn; a switch is on.
"""

import inspect
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import product
from pkgutil import iter_modules
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn import (
    MIXINGS,
    NORMS,
    PLACEMENTS,
    SKIPS,
    SOLVERS,
    SOURCES,
    VALUES,
    build_connection,
    build_end,
    build_mixing,
    build_solver,
)
from skipln_fairseq.nn.valid import valid_mixings, valid_norms, valid_placements, valid_solvers
from tests.oracles.held import slope
from tests.support.build import middle, wiring

DIM, DEPTH = 6, (2, 5)
DIRECTIONS = 2
SLOTS = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}
OPTIONS = {
    "expanded.scale": 0.7,
    "recursive.order": 3,
    "recursive.share": False,
    "lns.gain": False,
    "mhc.iterations": 4,
    "mix.part": 0.9,
    **{f"{name}.streams": 3 for name in ("hyper", "hyper-dynamic", "hyper-identity", "mhc")},
    **{f"{name}.fractions": 3 for name in ("frac", "frac-dynamic")},
}
MIXING_OPTIONS = {
    "dlcl": [{"norm_embedding": False}, {"norm_embedding": True}],
    "denseformer": [{"dilation": d, "period": p} for d, p in ((1, 1), (2, 1), (3, 1), (1, 2), (2, 3))],
    "attention": [{"size": size} for size in (1, 2, 3, 7)],
}
ENDS_NORMED = {"post", "keel"}
"""Placements whose last sub-layer is a norm's output, so that no norm stands at the stack's end."""


def chosen_options(declaration):
    """A value for each option that a variant declares."""
    return {
        option.name: OPTIONS.get(f"{declaration.choice}.{option.name}", middle(option))
        for option in declaration.options
    }


SOLVER_OPTIONS = {
    name: [{"per_block": False}, {"per_block": True}] for name in ("ema2", "ema4", "pc2", "pc4")
}


def oracle(axis, name):
    return import_module(f"tests.oracles.{axis}.{name.replace('-', '_')}")


@dataclass
class Stack:
    """A variant's stack in torch, and the parts that its oracle is told."""

    config: object
    side: str
    depth: int = 2
    modules: nn.ModuleList = field(default_factory=nn.ModuleList)
    mixings: nn.ModuleList = field(default_factory=nn.ModuleList)
    solvers: nn.ModuleList = field(default_factory=nn.ModuleList)
    widths: list[int] = field(default_factory=list)
    """Of the stream after each sub-layer so far."""

    def __post_init__(self):
        torch.manual_seed(0)
        slots = SLOTS[self.side]
        for layer in range(self.depth):
            first = self.solvers[0] if layer else None
            self.solvers.append(build_solver(DIM, self.config, first, layer=layer))
            first = None
            for index, slot in enumerate(slots):
                where = {"side": self.side, "slot": slot, "index": index, "size": len(slots)}
                where["last"] = index == len(slots) - 1
                connection = build_connection(
                    DIM, self.config, layer=layer, depth=DEPTH, first=first, **where
                )
                first = first or connection
                matrix = connection.connect_projection(nn.Linear(DIM, DIM, bias=False), self.config.make_norm)
                self.modules.append(nn.ModuleList([connection, matrix]))
                where = {"side": self.side, "layer": layer, "index": index, "slots": len(slots)}
                self.mixings.append(build_mixing(DIM, self.config, **where))
        where = {"side": self.side, "layer": self.depth, "slots": len(slots)}
        self.mixings.append(build_mixing(DIM, self.config, **where))
        layers = dict(zip(SLOTS, DEPTH, strict=True))[self.side]
        end = build_end(DIM, self.config, side=self.side, slot="ffn", layer=layers - 1, depth=DEPTH)
        self.end = end or nn.Identity()
        for module in (self.modules, self.end, self.mixings, self.solvers):
            self.randomise(module.double())

    @torch.no_grad()
    def randomise(self, module):
        for name, parameter in module.named_parameters():
            parameter.copy_(0.5 + torch.rand(parameter.shape, dtype=torch.float64))
            parameter.mul_(torch.where(torch.rand(parameter.shape) < 0.3, -1, 1))
            if parameter.dim() > 1:  # no gate is driven to 0 or 1, and slopes stay such as numbers can tell
                parameter.mul_(2 / parameter.size(-1))
            if name.endswith(
                "skip.gate"
            ):  # GPAS makes activations smaller and not gradients, which would explode
                parameter.mul_(0.1)
        for name, buffer in module.named_buffers():
            if name.endswith("profile"):
                buffer.add_(torch.rand(buffer.shape, dtype=torch.float64))
            if name.endswith("updates"):
                buffer.fill_(3)

    def forward(self, x):
        stream, memory = x, []
        layers = zip(self.solvers, self.rows(self.modules), self.rows(self.mixings), strict=False)
        for solver, modules, mixings in layers:
            stream, outputs = mixings[0](stream, memory), []
            for _ in range(solver.stages):
                y = solver.read(stream, outputs, memory)
                for index, (connection, matrix) in enumerate(modules):
                    y = mixings[index](y, memory) if index else y
                    y = connection.leave(matrix(connection.enter(y).tanh()), y)
                    self.widths.append(y.size(-1))
                outputs.append(y)
            stream = solver(stream, outputs, memory)
        return self.end(self.mixings[-1](stream, memory))

    def parameters(self):
        """All, each once."""
        return nn.ModuleList([self.modules, self.end, self.mixings, self.solvers]).parameters()

    def norm(self, module):
        """The norm oracle with a module's numbers."""
        norm = oracle("norm", self.config.norm).norm
        asked = inspect.signature(norm).parameters
        values = {name: value.detach().numpy() for name, value in module.named_parameters(recurse=False)}
        values |= {name: value for name, value in self.config.norm_options if name in asked}
        return partial(norm, **values)

    def sub_layer(self, layer, index, connection, matrix):
        weight = matrix.weight.detach().numpy()
        further = {"entry": getattr(connection, "entry", None), "inner": getattr(matrix, "norm", None)}
        further = {name: module and self.norm(module) for name, module in further.items()}
        wire = oracle("placement", self.config.placement).wire
        further |= {"layer": layer, "layers": dict(zip(SLOTS, DEPTH, strict=True))[self.side]}
        further |= {"slot": SLOTS[self.side][index], "side": self.side}
        further |= dict(self.config.placement_options)
        asked = inspect.signature(wire).parameters
        further = {name: value for name, value in further.items() if name in asked}
        f, last = wire(np.tanh, lambda h: h @ weight.T, self.norm(connection), **further)
        skip = connection.skip
        kept = {**dict(skip.named_parameters()), **dict(skip.named_buffers())}
        return SimpleNamespace(
            f=f,
            last=last,
            norms=[self.norm(norm) for norm in getattr(skip, "norms", ())],
            numbers={name: value.detach().numpy() for name, value in kept.items()},
            side=self.side,
            layer=layer,
            norm_follows=not connection.ends_with_norm,
        )

    def rows(self, flat):
        size = len(SLOTS[self.side])
        return [flat[start : start + size] for start in range(0, len(flat), size)]

    def expected(self, x):
        """By the oracles alone."""
        size = len(SLOTS[self.side])
        layers = self.rows(
            [self.sub_layer(number // size, number % size, *pair) for number, pair in enumerate(self.modules)]
        )
        skip = partial(oracle("skip", self.config.skip).stack, **dict(self.config.options))
        end = self.end_norm()
        if SKIPS[self.config.skip].merges:
            end.norms = [self.norm(norm) for norm in getattr(self.end, "norms", ())]
            end.numbers = {name: value.detach().numpy() for name, value in self.end.named_parameters()}
            return skip(x, layers, end)
        ends_with_norm = self.config.placement not in ENDS_NORMED and self.config.norm != "none"
        assert isinstance(self.end, nn.Identity) is not ends_with_norm
        solve = partial(oracle("solver", self.config.solver).solve, **dict(self.config.solver_options))
        asked = inspect.signature(solve).parameters
        blocks, history = [], []
        for solver, layer in zip(self.solvers, layers, strict=True):
            numbers = {name: value.detach().numpy() for name, value in solver.named_parameters()}
            once = partial(skip, layers=[layer], end=lambda v: v)
            more = {"history": history, "norms": [*map(self.norm, getattr(solver, "norms", ()))]}
            more = {name: value for name, value in more.items() if name in asked}
            run = partial(solve, once, numbers=numbers, **more)
            blocks.append(SimpleNamespace(run=run, branches=[each.f for each in layer]))
        places = self.rows([self.place(mixing) for mixing in self.mixings])
        normed = self.config.placement == "post"
        options = dict(self.config.mixing_options)
        stack = oracle("mixing", self.config.mixing).stack
        return stack(x, blocks, places, end, normed, **options)

    def place(self, mixing):
        numbers = {name: value.detach().numpy() for name, value in mixing.named_parameters()}
        norm = getattr(mixing, "norm", None)
        return SimpleNamespace(numbers=numbers, norm=norm and self.norm_outside(norm))

    def end_norm(self):
        if isinstance(self.end, nn.Identity):
            return lambda v: v
        return self.norm_outside(getattr(self.end, "norm", self.end))

    def norm_outside(self, norm):
        """Of one that stands where nothing knows the padding."""
        if NORMS[self.config.norm].declaration.kind == "batch":
            numbers = {"weight": norm.weight.detach().numpy(), "bias": norm.bias.detach().numpy()}
            return partial(oracle("norm", "layer").norm, **numbers)
        return self.norm(norm)


def words(skip):
    """Every combination of the words that its options may be."""
    options = [option for option in SKIPS[skip].declaration.options if option.choices]
    names = [option.name for option in options]
    for chosen in product(*(option.choices for option in options)):
        yield dict(zip(names, chosen, strict=True))


CASES = [
    (skip, norm, placement, chosen)
    for skip in SKIPS
    for norm in valid_norms(skip)
    for placement in valid_placements(skip, norm)
    for chosen in words(skip)
]


def config(skip, norm, placement, **chosen):
    """A connection's choices, with a value for each of their options."""
    declared = NORMS[norm].declaration
    # PowerNorm's are of what it does once it is warm, which its own tests hold
    numbers = () if declared.kind == "batch" else tuple(chosen_options(declared).items())
    options = chosen_options(SKIPS[skip].declaration) | chosen
    placing = tuple(chosen_options(PLACEMENTS[placement].declaration).items())
    return replace(wiring(skip, norm, placement, norm_options=numbers, **options), placement_options=placing)


def assert_equal(stack, tolerance):
    """A stack and its oracles, on three words of two sentences."""
    # the eps of ResiDual's last LayerNorm is 1e-7, and of its oracle 1e-5
    for module in stack.end.modules():
        if hasattr(module, "eps") and stack.config.norm == "layer":
            module.eps = 1e-5
    generator = torch.Generator().manual_seed(1)
    x, weights = torch.randn(2, 2, 3, DIM, generator=generator, dtype=torch.float64)
    found = stack.forward(x.requires_grad_())
    expected = stack.expected(x.detach().numpy())
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=0.1 * tolerance)
    (weights * found).sum().backward()
    for _ in range(DIRECTIONS):
        assert_slope(stack, x, weights.numpy(), generator)


def assert_slope(stack, x, weights, generator):
    """The gradients of x and of all parameters against the oracles' slope along one direction."""
    moved = [x, *stack.parameters()]
    towards = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in moved]
    starts = [one.detach().clone() for one in moved]

    @torch.no_grad()
    def at(distance):
        for one, start, direction in zip(moved, starts, towards, strict=True):
            one.copy_(start + distance * direction)
        return float((weights * stack.expected(x.numpy())).sum())

    expected = slope(at, 1e-7)
    at(0)
    parts = [float((one.grad * direction).sum()) for one, direction in zip(moved, towards, strict=True)]
    size = sum(abs(part) for part in parts)
    assert sum(parts) == pytest.approx(expected, rel=0, abs=1e-5 * size)


TRIPLES = list(dict.fromkeys(case[:3] for case in CASES))


@pytest.mark.parametrize("side", SLOTS)
@pytest.mark.parametrize(
    ("skip", "norm", "placement", "chosen"), CASES, ids=["-".join([*c[:3], *c[3].values()]) for c in CASES]
)
def test_a_stack_equals_the_oracles(skip, norm, placement, chosen, side):
    assert_equal(Stack(config(skip, norm, placement, **chosen), side), 1e-9)


MIXED = [
    (mixing, options, skip, norm, placement)
    for mixing in MIXINGS
    for number, options in enumerate(MIXING_OPTIONS.get(mixing, [{}]))
    for skip, norm, placement in TRIPLES
    if mixing in valid_mixings(skip, norm, placement)
    # each norm with the plain skip, and each skip rule with its own norm
    and (skip == "plain" or norm == valid_norms(skip)[0])
    and (not number or (skip == "plain" and norm == "layer"))
]


@pytest.mark.parametrize("side", SLOTS)
@pytest.mark.parametrize(("mixing", "options", "skip", "norm", "placement"), MIXED)
def test_a_stack_with_mixing_equals_the_oracles(mixing, options, skip, norm, placement, side):
    mixed = replace(config(skip, norm, placement), mixing=mixing, mixing_options=tuple(options.items()))
    assert_equal(Stack(mixed, side, depth=4), 1e-8)


SOLVED = [
    (solver, options, mixing, skip, norm, placement)
    for solver in SOLVERS
    for options in SOLVER_OPTIONS.get(solver, [{}])
    for skip, norm, placement in TRIPLES
    for mixing in valid_mixings(skip, norm, placement)
    if solver in valid_solvers(skip, norm, placement, mixing)
    and norm in (valid_norms(skip)[0], "rms")
    and (mixing == "none" or (skip == "plain" and norm == "layer"))
]


@pytest.mark.parametrize(("solver", "options", "mixing", "skip", "norm", "placement"), SOLVED)
def test_a_stack_with_a_solver_equals_the_oracles(solver, options, mixing, skip, norm, placement):
    of_mixing = tuple(MIXING_OPTIONS.get(mixing, [{}])[0].items())
    solved = replace(
        config(skip, norm, placement),
        mixing=mixing,
        mixing_options=of_mixing,
        solver=solver,
        solver_options=tuple(options.items()),
    )
    assert_equal(Stack(solved, "encoder", depth=3), 1e-7)


@pytest.mark.parametrize(
    ("skip", "norm", "placement", "chosen"),
    {case[0]: case for case in CASES}.values(),
    ids=list(dict.fromkeys(case[0] for case in CASES)),
)
@pytest.mark.parametrize("side", SLOTS)
def test_a_skip_rule_says_how_wide_its_stream_is(skip, norm, placement, chosen, side):
    """Whether it is wider than x anywhere, and whether it is so after the last layer too."""
    stack, rule = Stack(config(skip, norm, placement, **chosen), side), SKIPS[skip]
    stack.forward(torch.randn(2, 3, DIM, dtype=torch.float64))
    assert (max(stack.widths) > DIM) is rule.is_wide
    assert (stack.widths[-1] > DIM) is rule.merges
    assert {one.skip.is_wide for one, _ in stack.modules} == {rule.is_wide}


AXES = [SKIPS, NORMS, PLACEMENTS, MIXINGS, SOLVERS, VALUES, SOURCES]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
def test_each_variant_has_an_oracle_and_the_reverse(axis):
    folder = import_module(f"tests.oracles.{axis.axis}").__path__
    assert {module.name for module in iter_modules(folder)} == {name.replace("-", "_") for name in axis}
