"""Images with labels, wherever they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["ArrayImages", "Images"]


class Images(Protocol):
    """Labelled images of one size.

    Attributes:
        labels: (N), int64, each a place in ``classes``.
        classes: names.
    """

    labels: np.ndarray
    classes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> np.ndarray:
        """(H, W, C), uint8."""


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory: ``pixels`` (N, H, W, C), uint8."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.pixels[number]
