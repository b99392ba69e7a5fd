"""VGG-11 for small images, with a normalisation of choice."""

import math
from itertools import chain, pairwise

from torch import Tensor, nn

from .normalisation import Normalisation

__all__ = ["VGG11"]

WIDTHS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
DROPOUT = 0.5
GAIN = math.sqrt(2.8)
"""Without norms the weights' deviation is √(2.8 / n), n the inputs of a filter (Dai et al. 2020)."""


class VGG11(nn.Module):
    """Eight convolutions between poolings, a mean over what is left, a classifier.

    Source: Simonyan, Zisserman 2015, arXiv:1409.1556, configuration A. Its classifier has two hidden layers of 4,096
    with dropout, as MimicNorm's authors have for CIFAR too; others leave them out there.

    Args:
        in_channels, size, classes: of the images; a pooling that would leave nothing of them is left out.
        normalisation: after every convolution, and on the logits.
        hidden: features of the classifier's two hidden layers; 0: it has none, and is one linear map.
    """

    def __init__(
        self, in_channels: int, size: int, classes: int, normalisation: Normalisation, hidden: int = 0
    ):
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
        widths = [in_channels, *([hidden] * 2 if hidden else []), classes]
        linears = [nn.Linear(*each) for each in pairwise(widths)]
        between = [nn.Sequential(nn.ReLU(), nn.Dropout(DROPOUT)) for _ in linears[1:]]
        self.classifier = nn.Sequential(*chain(*zip(linears, [*between, nn.Identity()], strict=True)))
        self.last = normalisation.last(classes)
        for linear in linears:
            normalisation.linear_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        return self.last(self.classifier(self.features(image).mean((2, 3))))
