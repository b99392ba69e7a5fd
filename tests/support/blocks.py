"""Blocks of plain PyTorch with every choice, and what they read."""

import torch
from torch import nn

from skipln_fairseq.nn import (
    NORMS,
    PLACEMENTS,
    SKIPS,
    Branch,
    Residual,
)
from skipln_fairseq.nn.valid import valid_norms, valid_placements

DIM = 8
PLACE = {"layer": 1, "depth": 3, "index": 0, "size": 2}
ALONE = [skip for skip in SKIPS if not SKIPS[skip].measures]


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, 16), nn.Linear(16, DIM)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))

    def branch(self):
        return Branch((), (self.fc1, self.fc2))


class Weighted(nn.Module):
    """Reads one tensor more, as cross-attention does."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, x, memory):
        return self.linear(x) * memory


class Stack(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.end = blocks[-1].make_end()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.end(x)


def valid():
    """Every skip, norm and placement that go together."""
    for skip in ALONE:
        for norm in valid_norms(skip):
            for placement in valid_placements(skip, norm):
                if not PLACEMENTS[placement].declaration.qk_norms:
                    yield skip, norm, placement


def needed(*choices):
    """A value of each option that has to be given, by its flag."""
    declarations = [
        axis[name].declaration for axis, name in zip((SKIPS, NORMS, PLACEMENTS), choices, strict=True)
    ]
    options = [option for one in declarations for option in one.options if option.default is None]
    return {option.flag: option.choices[0] if option.choices else int(option.drawn[1]) for option in options}


def made(skip="plain", norm="layer", placement="post", **more):
    torch.manual_seed(1)
    function = FeedForward()
    place = {"branch": function.branch()} | PLACE | more
    return Residual(function, DIM, skip, norm, placement, **place, **needed(skip, norm, placement)).eval()


def inputs():
    torch.manual_seed(2)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 2] = True
    return torch.randn(2, 3, DIM), mask
