"""Which normalisation stands inside a network: ``NORMALISATIONS`` is the registry behind ``--normalisation``.

MimicNorm (Dai et al. 2020, arXiv:2010.09278) has none there: convolutions have biases, a residual branch is scaled by a
learned number, and what normalisation would do is left to the mean of the weights (:mod:`..weight_mean`) and one
BatchNorm before the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..running_statistics import BatchNorm1d, BatchNorm2d

__all__ = ["NORMALISATIONS", "Normalisation", "Scalar"]

GAIN = 1.2
"""A branch's scalar is at first GAIN² over the number of the block, from 1 on, that of a projected shortcut GAIN.

The latter is so in the authors' ImageNet code, and was in their CIFAR code until 2021, when it was taken out there."""


class Scalar(nn.Module):
    """``s v`` with a learned s."""

    def __init__(self, first: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(first))

    def forward(self, v: Tensor) -> Tensor:
        return self.scale * v


@dataclass(frozen=True)
class Normalisation:
    """What a network has.

    Args:
        norm: from channels to a module, after every convolution.
        bias: whether convolutions have one.
        fan: of their filters, which weights are drawn by: fan_in or fan_out.
        branch: from the number of a residual block, counted from 1, to what its branch ends in.
        shortcut: from nothing to what a convolution on a shortcut ends in, besides the norm.
        linear_: what draws the weights of linear maps anew.
        last: from classes to a module, on the logits.
        weight_mean: whether the means of the filters are taken out.
    """

    norm: Callable[[int], nn.Module]
    bias: bool
    fan: str
    branch: Callable[[int], nn.Module]
    shortcut: Callable[[], nn.Module]
    linear_: Callable[[Tensor], None]
    last: Callable[[int], nn.Module]
    weight_mean: bool = False

    def without_shortcut_scalar(self) -> "Normalisation":
        """The same, but a projected shortcut ends in nothing more."""
        return replace(self, shortcut=nn.Identity)


def _nothing(_: int) -> nn.Module:
    return nn.Identity()


def _scalar(block: int) -> nn.Module:
    return Scalar(GAIN**2 / block)


def _shortcut_scalar() -> nn.Module:
    return Scalar(GAIN)


def _as_drawn(weight: Tensor) -> None:
    """As nn.Linear draws it: uniform within ±1/√inputs."""


def _last_norm(classes: int) -> nn.Module:
    return BatchNorm1d(classes, affine=False)


WITHOUT = Normalisation(
    norm=_nothing,
    bias=True,
    fan="fan_in",
    branch=_scalar,
    shortcut=_shortcut_scalar,
    linear_=nn.init.kaiming_normal_,
    last=_nothing,
)

NORMALISATIONS: dict[str, Normalisation] = {
    "batch": Normalisation(
        norm=BatchNorm2d,
        bias=False,
        fan="fan_out",
        branch=_nothing,
        shortcut=nn.Identity,
        linear_=_as_drawn,
        last=_nothing,
    ),
    "none": WITHOUT,
    "mimic": replace(WITHOUT, last=_last_norm, weight_mean=True),
}
