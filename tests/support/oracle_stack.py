"""A stack of sub-layers in torch with every choice, beside what the oracles of its choices give.

What an oracle is told stands at the top of ``tests/models/test_variants.py``.
"""

import inspect
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from skipln_fairseq.nn import (
    NORMS,
    PLACEMENTS,
    SKIPS,
    build_connection,
    build_end,
    build_mixing,
    build_solver,
)
from skipln_fairseq.nn.valid import valid_norms, valid_placements
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
