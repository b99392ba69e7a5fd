"""PreAct-ResNets for small images, with a connection of choice at every sum."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ...nn import ConnectionConfig
from ..running_statistics import BatchNorm2d
from .connection import SpatialConnection

__all__ = ["FirstPreActBlock", "PreActBlock", "PreActResNet", "shortened"]

WIDTHS = (16, 32, 64)


def shortened(x: Tensor, stride: int, channels: int) -> Tensor:
    """The shortcut where a stage begins: every ``stride``-th position, and zeros for the channels that x lacks.

    Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 3.3, option A, which that paper takes for CIFAR: it has
    no parameters.
    """
    x = x[:, :, ::stride, ::stride]
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.size(1)))


class PreActBlock(nn.Module):
    """``connection(F(x), x)``, F = BatchNorm, ReLU, convolution, twice.

    Source: He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.

    Args:
        before: channels of x.
        channels: of y.
        stride: of the first convolution.
        connection: of the sum.
    """

    def __init__(self, before: int, channels: int, stride: int, connection: nn.Module):
        super().__init__()
        self.stride, self.channels = stride, channels
        self.bn1 = BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.connection = connection

    def _activated(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(x))

    def _convolved(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.bn2(self.conv1(x))))

    def branch(self, x: Tensor) -> Tensor:
        """F(x)."""
        return self._convolved(self._activated(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.connection(self.branch(x), x)


class FirstPreActBlock(PreActBlock):
    """The first block of a stage: BN-ReLU is applied before branch and shortcut.

    So it is in the first unit of the network and where the shape changes in the source and its authors' code
    (resnet-1k-layers).
    """

    begins_stage = True

    def branch(self, x: Tensor) -> Tensor:
        """F of the activated x."""
        return self._convolved(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self._activated(x)
        return self.connection(self.branch(x), shortened(x, self.stride, self.channels))


class PreActResNet(nn.Module):
    """A convolution, three stages of n blocks with 16, 32, 64 channels, BatchNorm, ReLU, mean, classes: depth 6n + 2.

    Args:
        depth: 20, 56, 110, or another 6n + 2.
        in_channels: of the images.
        size: height and width of the images.
        classes: how many.
        config: the connection of every block.
        over: what its norm is over, see :class:`.SpatialConnection`.
    """

    def __init__(
        self,
        depth: int,
        in_channels: int,
        size: int,
        classes: int,
        config: ConnectionConfig,
        over: str = "channels",
    ):
        super().__init__()
        assert depth % 6 == 2, "the caller has checked it"
        self.conv = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        blocks, before = [], WIDTHS[0]
        for stage, channels in enumerate(WIDTHS):
            for number in range(depth // 6):
                stride = 2 if stage and not number else 1
                size = math.ceil(size / stride)
                connection = SpatialConnection(channels, size, config, over)
                block = PreActBlock if number else FirstPreActBlock
                blocks.append(block(before, channels, stride, connection))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.bn = BatchNorm2d(before)
        self.fc = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # √(2 / (k² · outputs)), as its authors' code
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        x = F.relu(self.bn(self.blocks(self.conv(image))))
        return self.fc(x.mean((2, 3)))
