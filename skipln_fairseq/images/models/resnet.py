"""ResNet-18, with a connection and a normalisation of choice."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ...nn import ConnectionConfig
from .connection import SpatialConnection
from .normalisation import Normalisation

__all__ = ["BasicBlock", "ResNet18"]

WIDTHS = (64, 128, 256, 512)
SMALL = 64
"""Images below this size get CIFAR's beginning, a 3 × 3 convolution; others ImageNet's, 7 × 7 and a pooling."""


def _convolution(
    before: int, channels: int, kernel: int, stride: int, normalisation: Normalisation
) -> nn.Sequential:
    convolution = nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2, bias=normalisation.bias)
    return nn.Sequential(convolution, normalisation.norm(channels))


class BasicBlock(nn.Module):
    """``ReLU(connection(F(x), x))``, F = convolution, norm, ReLU, convolution, norm.

    Where a stage begins, x goes through a 1 × 1 convolution with a norm (option B of the source), or without norms a
    learned scalar unless that is left out.

    Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385.
    """

    def __init__(
        self,
        before: int,
        channels: int,
        stride: int,
        number: int,
        connection: nn.Module,
        normalisation: Normalisation,
        begins_stage: bool,
    ):
        super().__init__()
        self.begins_stage = begins_stage
        self.first = _convolution(before, channels, 3, stride, normalisation)
        self.second = _convolution(channels, channels, 3, 1, normalisation)
        self.scale = normalisation.branch(number)
        changes = stride > 1 or before != channels
        self.shortcut = nn.Identity()
        if changes:
            projection = _convolution(before, channels, 1, stride, normalisation)
            self.shortcut = nn.Sequential(*projection, normalisation.shortcut())
        self.connection = connection

    def branch(self, x: Tensor) -> Tensor:
        """F(x)."""
        return self.scale(self.second(F.relu(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.connection(self.branch(x), self.shortcut(x)))


class ResNet18(nn.Module):
    """A convolution, four stages of two blocks with 64, 128, 256 and 512 channels, mean, classes.

    Args:
        in_channels, size, classes: of the images.
        config, over: of every connection, see :class:`.SpatialConnection`.
        normalisation: of the rest.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        classes: int,
        config: ConnectionConfig,
        over: str,
        normalisation: Normalisation,
    ):
        super().__init__()
        small = size < SMALL
        self.conv = _convolution(in_channels, WIDTHS[0], 3 if small else 7, 1 if small else 2, normalisation)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        size = size if small else math.ceil(math.ceil(size / 2) / 2)
        blocks, before = [], WIDTHS[0]
        for stage, channels in enumerate(WIDTHS):
            for number in range(2):
                stride = 2 if stage and not number else 1
                size = math.ceil(size / stride)
                connection = SpatialConnection(channels, size, config, over)
                blocks.append(
                    BasicBlock(
                        before, channels, stride, len(blocks) + 1, connection, normalisation, not number
                    )
                )
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, classes)
        self.last = normalisation.last(classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode=normalisation.fan)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        normalisation.linear_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        x = self.blocks(self.pool(F.relu(self.conv(image))))
        return self.last(self.fc(x.mean((2, 3))))
