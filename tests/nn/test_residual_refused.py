"""What a block in plain PyTorch refuses."""

import pytest
import torch
from torch import nn

from skipln_fairseq.nn import Branch, ChoiceError, Residual

DIM = 8

REFUSED = {
    "a skip": ({"skip": "recursiv"}, "skip 'recursiv': valid are .*recursive"),
    "a norm": ({"norm": "layernorm"}, "norm 'layernorm': valid are .*layer, "),
    "a placement": ({"placement": "before"}, "placement 'before': valid are post, .*pre"),
    "a skip with another placement": (
        {"skip": "recursive", "order": 2, "placement": "pre"},
        "placement 'pre' does not go with skip 'recursive' and norm 'layer': valid are post",
    ),
    "a skip with another norm": (
        {"skip": "dual", "norm": "batch"},
        "norm 'batch' does not go with skip 'dual': valid are layer, ",
    ),
    "a gain that the norm has not": (
        {"norm": "ada", "placement": "lns", "gain": True, "layer": 0},
        "norm 'ada' does not go with placement 'lns': .*needs a norm with a gain",
    ),
    "no order": ({"skip": "recursive"}, "skip 'recursive' needs order=: K, a whole number of at least 1"),
    "no choice of words": (
        {"skip": "mhc", "readout": "sum"},
        "skip 'mhc' needs start=: megatron or factory",
    ),
    "a bad order": ({"skip": "recursive", "order": 0}, "order=0: valid is a whole number of at least 1"),
    "half an order": (
        {"skip": "recursive", "order": 1.5},
        r"order=1\.5: valid is a whole number of at least 1",
    ),
    "an option of another": (
        {"skip": "plain", "order": 2},
        "order= is no option of skip 'plain', norm 'layer', placement 'post', mixing 'none': they have none",
    ),
    "a mistyped option": (
        {"skip": "recursive", "order": 2, "shared": True},
        "shared= is no option of .*: valid are order, share.*; did you mean share=?",
    ),
    "a mistyped place": (
        {"skip": "deepnorm", "depths": 2},
        "depths= is no option of .*: they have none; did you mean depth=?",
    ),
    "a mistyped option that is missing": (
        {"skip": "recursive", "ordre": 2},
        "ordre= is no option of .*: valid are order, share.*; did you mean order=?",
    ),
    "a mistyped flag": (
        {"skip": "recursive", "skip_odrer": 2},
        "skip_odrer= is no option of .*; did you mean skip_order=?",
    ),
    "two options of one name": (
        {"skip": "expanded", "norm": "ada", "scale": 2},
        "scale= has two meanings here: valid are skip_scale and adanorm_scale",
    ),
    "an option twice": (
        {"skip": "recursive", "order": 2, "skip_order": 3},
        "skip_order= says again what order= says: valid is one of them",
    ),
    "no depth": ({"skip": "deepnorm"}, "skip 'deepnorm' .* needs depth=, how many layers the model has"),
    "no layer": ({"placement": "lns"}, "placement 'lns' needs layer=, the number of the block's layer"),
    "no place in the layer": (
        {"skip": "b2t"},
        "skip 'b2t' .* needs depth=, .*; index=, .*; size=, how many blocks",
    ),
    "no place in the model": (
        {"skip": "prores", "placement": "lns", "steps": 9},
        "needs layer=",
    ),
    "no maps of F": (
        {"skip": "deepnorm", "depth": 2},
        "needs branch=, a Branch of F's linear maps .*first weights are part of the method",
    ),
    "neither a depth nor maps": (
        {"skip": "deepnorm"},
        "needs depth=, how many layers .*; branch=, a Branch of F's linear maps",
    ),
    "a module for maps": ({"branch": nn.Linear(DIM, DIM)}, r"valid is Branch\(scores=\(…\), others=\(…\)\)"),
    "one map for a tuple": ({"branch": Branch((), nn.Linear(DIM, DIM))}, r"two tuples of F's nn\.Linear"),
    "what is no map": ({"branch": Branch((), (nn.ReLU(),))}, r"two tuples of F's nn\.Linear"),
    "a measurement": ({"skip": "admin"}, "measures a whole model in its first step, .*: valid are .*plain"),
    "norms inside attention": ({"placement": "hybrid"}, "norms inside attention too, .*: valid are post, "),
    "parts that do not divide": ({"skip": "frac", "fractions": 3}, "3 does not divide the width of 8"),
    "a layer that is not there": ({"layer": 3, "depth": 3}, "layer=3: valid is .* to 2"),
    "a negative layer": ({"layer": -1}, "layer=-1: valid is the number of the block's layer, from 0"),
    "a depth of nothing": ({"depth": 0}, "depth=.*: valid is how many layers the model has"),
    "three depths": ({"depth": (1, 2, 3)}, "depth=.*: valid is how many layers the model has"),
    "half a depth": ({"depth": 2.5}, r"depth=.*2\.5.*: valid is how many layers the model has"),
    "what is no first block": (
        {"skip": "gpas", "placement": "pre", "first": nn.Linear(2, 2)},
        "first= is a Linear: valid is a block with skip 'gpas'",
    ),
    "a first block of another width": (
        {"skip": "plain", "first": Residual(nn.Identity(), 4)},
        "first= has dim 4: valid is a block with dim 8",
    ),
    "a later block of a layer that shares with none": (
        {"skip": "gpas", "placement": "pre", "index": 1},
        "needs first=, the block of the same layer that has index 0",
    ),
    "the same with another skip": (
        {"skip": "rezero", "norm": "none", "index": 1, "size": 2},
        "needs first=, the block of the same layer that has index 0",
    ),
    "a switch in words": (
        {"skip": "recursive", "order": 2, "share": "False"},
        "share='False': valid is True or False",
    ),
    "an index that is not there": ({"index": 2, "size": 2}, "index=2: valid is .* to 1"),
    "a side": ({"side": "left"}, "side='left': valid are encoder, decoder"),
    "no probability": ({"dropout": 1.0}, r"dropout=1\.0: valid is a probability from 0, below 1"),
    "no number of heads": ({"heads": 3}, "heads=3: valid is what divides dim=8"),
    "no function": ({"function": None}, "function=None: valid is a module or another callable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_in_one_line(name):
    choices, message = REFUSED[name]
    with pytest.raises(ChoiceError, match=message) as caught:
        Residual(**{"function": nn.Identity(), "dim": DIM} | choices)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dim", [0, -1, 2.5, "8"])
def test_a_width_is_a_whole_number(dim):
    with pytest.raises(ChoiceError, match="valid is a whole number of at least 1"):
        Residual(nn.Identity(), dim)


def test_what_makes_no_tensor_is_named():
    attention = nn.MultiheadAttention(DIM, 2)
    x = torch.randn(2, 3, DIM)
    with pytest.raises(TypeError, match="F has to make one tensor, not tuple: wrap MultiheadAttention"):
        Residual(attention, DIM)(x, x, x)
