"""VGG-11 for small images, with a normalisation of choice."""

import math

from torch import Tensor, nn

from .normalisation import Normalisation

__all__ = ["VGG11"]

WIDTHS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
GAIN = math.sqrt(2.8)
"""Without norms the weights' deviation is √(2.8 / n), n the inputs of a filter (Dai et al. 2020)."""


class VGG11(nn.Module):
    """Eight convolutions between poolings, then classes by one linear map, as CIFAR's literature has it.

    Source: Simonyan, Zisserman 2015, arXiv:1409.1556, configuration A, without the two wide layers of its classifier.

    Args:
        in_channels, size, classes: of the images; a pooling that would leave nothing of them is left out.
        normalisation: after every convolution, and on the logits.
    """

    def __init__(self, in_channels: int, size: int, classes: int, normalisation: Normalisation):
        super().__init__()
        layers: list[nn.Module] = []
        for width in WIDTHS:
            if width == "pool":
                if size > 1:
                    layers.append(nn.MaxPool2d(2))
                    size //= 2
                continue
            convolution = nn.Conv2d(in_channels, width, 3, padding=1, bias=normalisation.bias)
            layers += [convolution, normalisation.norm(width), nn.ReLU()]
            if normalisation.bias:
                nn.init.normal_(convolution.weight, std=GAIN / math.sqrt(in_channels * 9))
                nn.init.zeros_(convolution.bias)
            else:
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
            in_channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(in_channels, classes)
        self.last = normalisation.last(classes)
        nn.init.zeros_(self.fc.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        return self.last(self.fc(self.features(image).mean((2, 3))))
