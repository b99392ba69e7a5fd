"""QKNorm as it was published for translation: queries and keys of length 1, and a learned scale."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import single
from ..variant import Option, Paper
from .base import QK_NORMS, QKNorm

__all__ = ["UnitQKNorm"]


def _unit(v: Tensor) -> Tensor:
    return F.normalize(single(v), dim=-1).to(v.dtype)


class Unit(nn.Module):
    """``v/‖v‖``."""

    def forward(self, v: Tensor) -> Tensor:
        return _unit(v)


class ScaledUnit(nn.Module):
    """``g v/‖v‖`` with a learned g that is not the one of the product but √d_h times that.

    Args:
        scale: the first value of g without that factor.
        dim: d_h.
    """

    def __init__(self, scale: float, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.root = math.sqrt(dim)

    def forward(self, v: Tensor) -> Tensor:
        return (self.scale * self.root).to(v.dtype) * _unit(v)


@QK_NORMS.declare(
    "unit",
    title="QKNorm",
    equation="g q̂·k̂, q̂ and k̂ of length 1, g from log₂(L² − L)",
    paper=Paper("Henry et al. 2020", "2010.04245"),
    options=(
        Option(
            "length",
            "qk_norm_length",
            "the 97.5th percentile of the lengths of the training sentences, from which g starts",
            "L",
            int,
            least=2,
            drawn=(5, 60),
        ),
    ),
    example="--qk-norm-length 30",
)
class UnitQKNorm(QKNorm):
    """``g q̂·k̂`` in the place of ``q·k/√d_h``, q̂ and k̂ being a head's features over their Euclidean length.

    g is learned, one for each attention, and starts at ``log₂(L² − L)``. L is the 97.5th percentile of the lengths of
    the training sentences, in words as the model sees them: it belongs to the data, so it has to be given.

    Source: Henry, Dachapally, Pawar, Chen 2020, arXiv:2010.04245.

    Args:
        length: L.
    """

    def __init__(self, length: int):
        self.length = length

    def norms(self, dim: int) -> tuple[nn.Module, nn.Module]:
        return ScaledUnit(math.log2(self.length**2 - self.length), dim), Unit()
