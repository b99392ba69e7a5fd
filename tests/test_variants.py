"""Every registered variant in whole stacks, against the oracle of its name: a variant without one fails.

A stack has two layers of two or three sub-layers, each F a tanh and a matrix, all numbers drawn at random, and its
end. An oracle stands in ``oracles/AXIS/NAME.py``, in float64 numpy, written from the paper and not from the package:

* skip: ``stack(x, layers, end, **options)``; a sub-layer has ``f`` (F with the norms that the placement puts around
  it), ``last`` (the norm after the sum, or the identity), ``norms`` (further ones), ``numbers`` (what the rule learns
  or keeps), ``side``, and ``norm_follows``, whether ``last`` is a norm. ``end`` is the stack's last norm, or the
  identity, with ``norms`` and ``numbers`` of its own. Where an option is a choice of words, every word has its turn.
* placement: ``wire(before, project, norm, …) -> f, last``: F is project(before(x)). It may ask for ``entry`` and
  ``inner``, the norms that the placement made besides, for ``layer`` and ``layers``, which layer of how many, and for
  the placement's options.
* norm: ``norm(v, **numbers)``, the numbers those that it learns, and of its options those that the oracle asks for.

An option takes its value of ``OPTIONS``, or else the middle of what its declaration says is drawn.
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

from skipln_fairseq.models.family import valid_norms, valid_placements
from skipln_fairseq.nn import NORMS, PLACEMENTS, SKIPS, build_connection, build_end
from tests.build import middle, wiring

DIM, DEPTH = 6, (2, 5)
SLOTS = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}
OPTIONS = {"scale": 0.7, "order": 3, "share": False, "vector": True, "gain": False}
OPTIONS |= {"streams": 3, "fractions": 3, "iterations": 4}


def chosen_options(declaration):
    """A value for each option that a variant declares."""
    return {option.name: OPTIONS.get(option.name, middle(option)) for option in declaration.options}


def oracle(axis, name):
    return import_module(f"tests.oracles.{axis}.{name.replace('-', '_')}")


@dataclass
class Stack:
    """A variant's stack in torch, and the parts that its oracle is told."""

    config: object
    side: str
    modules: nn.ModuleList = field(default_factory=nn.ModuleList)
    layers: list = field(default_factory=list)

    def __post_init__(self):
        torch.manual_seed(0)
        slots = SLOTS[self.side]
        for layer in range(2):
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
        layers = dict(zip(SLOTS, DEPTH, strict=True))[self.side]
        end = build_end(DIM, self.config, side=self.side, slot="ffn", layer=layers - 1, depth=DEPTH)
        self.end = end or nn.Identity()
        for module in (self.modules.double(), self.end.double()):
            self.randomise(module)

    @torch.no_grad()
    def randomise(self, module):
        for parameter in module.parameters():
            parameter.copy_(0.5 + torch.rand(parameter.shape, dtype=torch.float64))
            parameter.mul_(torch.where(torch.rand(parameter.shape) < 0.3, -1, 1))
            if parameter.dim() > 1:  # maps of several streams: no gate is driven to 0 or 1
                parameter.mul_(min(1, DIM / parameter.size(-1)))
        for name, buffer in module.named_buffers():
            if name.endswith("profile"):
                buffer.add_(torch.rand(buffer.shape, dtype=torch.float64))
            if name.endswith("updates"):
                buffer.fill_(3)

    def forward(self, x):
        stream = x
        for connection, matrix in self.modules:
            stream = connection.leave(matrix(connection.enter(stream).tanh()), stream)
        return self.end(stream)

    def norm(self, module):
        """The norm oracle with a module's numbers."""
        norm = oracle("norm", self.config.norm).norm
        asked = inspect.signature(norm).parameters
        values = {name: value.detach().numpy() for name, value in module.named_parameters(recurse=False)}
        values |= {name: value for name, value in self.config.norm_options if name in asked}
        return partial(norm, **values)

    def sub_layer(self, layer, connection, matrix):
        weight = matrix.weight.detach().numpy()
        further = {"entry": getattr(connection, "entry", None), "inner": getattr(matrix, "norm", None)}
        further = {name: module and self.norm(module) for name, module in further.items()}
        wire = oracle("placement", self.config.placement).wire
        further |= {"layer": layer, "layers": dict(zip(SLOTS, DEPTH, strict=True))[self.side]}
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
            norm_follows=not connection.ends_with_norm,
        )

    def expected(self, x):
        """By the oracles alone."""
        size = len(SLOTS[self.side])
        flat = [self.sub_layer(number // size, *pair) for number, pair in enumerate(self.modules)]
        layers = [flat[:size], flat[size:]]
        options = dict(self.config.options)
        end = self.end_norm()
        end.norms = [self.norm(norm) for norm in getattr(self.end, "norms", ())]
        end.numbers = {name: value.detach().numpy() for name, value in self.end.named_parameters()}
        return oracle("skip", self.config.skip).stack(x, layers, end, **options)

    def end_norm(self):
        if isinstance(self.end, nn.Identity):
            return lambda v: v
        last = getattr(self.end, "norm", self.end)
        if NORMS[self.config.norm].declaration.kind == "batch":
            return partial(
                oracle("norm", "layer").norm,
                weight=last.weight.detach().numpy(),
                bias=last.bias.detach().numpy(),
            )
        return self.norm(last)


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


@pytest.mark.parametrize("side", SLOTS)
@pytest.mark.parametrize(
    ("skip", "norm", "placement", "chosen"), CASES, ids=["-".join([*c[:3], *c[3].values()]) for c in CASES]
)
def test_a_stack_equals_the_oracles(skip, norm, placement, chosen, side):
    declared = NORMS[norm].declaration
    # PowerNorm's are of what it does once it is warm, which its own tests hold
    numbers = () if declared.kind == "batch" else tuple(chosen_options(declared).items())
    options = chosen_options(SKIPS[skip].declaration) | chosen
    placing = tuple(chosen_options(PLACEMENTS[placement].declaration).items())
    config = replace(
        wiring(skip, norm, placement, norm_options=numbers, **options), placement_options=placing
    )
    stack = Stack(config, side)
    x = torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # the eps of ResiDual's last LayerNorm is 1e-7, and of its oracle 1e-5: the test makes them equal
    for module in stack.end.modules():
        if hasattr(module, "eps") and norm == "layer":
            module.eps = 1e-5
    found, expected = stack.forward(x).detach().numpy(), stack.expected(x.numpy())
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("axis", [SKIPS, NORMS, PLACEMENTS], ids=lambda axis: axis.axis)
def test_each_variant_has_an_oracle_and_the_reverse(axis):
    folder = import_module(f"tests.oracles.{axis.axis}").__path__
    assert {module.name for module in iter_modules(folder)} == {name.replace("-", "_") for name in axis}
