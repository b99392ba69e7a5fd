"""Which normalisation stands inside a network: ``NORMALISATIONS`` is the registry behind ``--normalisation``.

MimicNorm (Dai et al. 2020, arXiv:2010.09278) has none there: convolutions have biases, a residual branch is scaled by a
learned number, and what normalisation would do is left to the mean of the weights (:mod:`..weight_mean`) and one
BatchNorm before the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["NORMALISATIONS", "BranchScalar", "Normalisation"]

GAIN = 1.2
"""The first value of a branch's scalar is GAIN² over the number of the block, counted from 1."""


class BranchScalar(nn.Module):
    """``s F(x)`` with a learned s."""

    def __init__(self, first: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(first))

    def forward(self, f_x: Tensor) -> Tensor:
        return self.scale * f_x


@dataclass(frozen=True)
class Normalisation:
    """What a network has.

    Args:
        norm: from channels to a module, after every convolution.
        bias: whether convolutions have one.
        fan: of their filters, which weights are drawn by: fan_in or fan_out.
        branch: from the number of a residual block, counted from 1, to what its branch ends in.
        last: from classes to a module, on the logits.
        weight_mean: whether the means of the filters are taken out.
    """

    norm: Callable[[int], nn.Module]
    bias: bool
    fan: str
    branch: Callable[[int], nn.Module]
    last: Callable[[int], nn.Module]
    weight_mean: bool = False


def _nothing(_: int) -> nn.Module:
    return nn.Identity()


def _scalar(block: int) -> nn.Module:
    return BranchScalar(GAIN**2 / block)


def _last_norm(classes: int) -> nn.Module:
    return nn.BatchNorm1d(classes, affine=False)


NORMALISATIONS: dict[str, Normalisation] = {
    "batch": Normalisation(nn.BatchNorm2d, False, "fan_out", _nothing, _nothing),
    "none": Normalisation(_nothing, True, "fan_in", _scalar, _nothing),
    "mimic": Normalisation(_nothing, True, "fan_in", _scalar, _last_norm, weight_mean=True),
}
