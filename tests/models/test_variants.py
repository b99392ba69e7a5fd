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

An option takes its value of ``OPTIONS`` in ``tests/support/oracle_stack.py``, or else the middle of what its
declaration says is drawn; a switch is on.
"""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

from skipln_fairseq.nn import (
    MIXINGS,
    NORMS,
    PLACEMENTS,
    SKIPS,
    SOLVERS,
    SOURCES,
    VALUES,
)
from skipln_fairseq.nn.valid import valid_mixings, valid_norms, valid_solvers
from tests.support.oracle_stack import (
    CASES,
    DIM,
    MIXING_OPTIONS,
    SLOTS,
    SOLVER_OPTIONS,
    Stack,
    assert_equal,
    config,
)

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
