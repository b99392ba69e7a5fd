"""FAVOR+: linear attention whose random features are drawn again from time to time."""

import random
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from .features import KERNELS, draw_projection
from .linear import LinearAttention

__all__ = ["Favor", "FavorConfig"]


@dataclass(frozen=True)
class FavorConfig:
    """The numbers of FAVOR+ attention.

    Attributes:
        kernel: a name in ``KERNELS``.
        features: m, the number of ω vectors; hyperbolic and trigonometric make two features of each.
        orthogonal: whether the ω vectors of a block are orthogonal.
        fixed_length: whether each has the length √d and not that of a Gaussian vector.
        redraw_interval: updates after which ω is drawn again; 0: never.
        seed: of all draws.
    """

    kernel: str = "positive"
    features: int = 256
    orthogonal: bool = True
    fixed_length: bool = False
    redraw_interval: int = 1000
    seed: int = 1


class _Known:
    """A whole number that a tensor holds, read where that is another one or was written to: to read waits for a GPU."""

    def __init__(self):
        self.tensor: Optional[Tensor] = None
        self.version = self.number = 0

    def note(self, tensor: Tensor, number: int) -> None:
        """The tensor holds this now."""
        if not tensor.is_inference():  # one that is does not count what is written to it
            self.tensor, self.version, self.number = tensor, tensor._version, number

    def read(self, tensor: Tensor) -> int:
        """What the tensor holds."""
        if tensor is self.tensor and tensor._version == self.version:
            return self.number
        number = int(tensor)
        self.note(tensor, number)
        return number


class Favor(LinearAttention):
    """FAVOR+ attention (Choromanski et al. 2021, arXiv:2009.14794) of one layer, its heads sharing ω.

    What ω is follows from the seed, the layer's number and the number of redraws, itself from the number of updates: so
    all workers draw the same at the same update, and so does a resumed run. ω and the number of redraws are buffers.

    Args:
        dim: d, the dimension of a head.
        config: the numbers.
        layer: tells the draws of layers apart.
    """

    redraws: Tensor

    def __init__(self, dim: int, config: FavorConfig, layer: int = 0):
        super().__init__(KERNELS[config.kernel](config.features, dim))
        self.interval = config.redraw_interval
        self.seed = config.seed
        self.orthogonal = config.orthogonal
        self.fixed_length = config.fixed_length
        self.layer = layer
        self.register_buffer("redraws", torch.zeros((), dtype=torch.long))
        self._known = _Known()
        self.draw(0)

    @torch.jit.unused
    def draw(self, redraws: int) -> None:
        """Draw ω as it is after so many redraws."""
        # of a string, by which Python's generator is seeded alike in all versions and on all machines
        seed = random.Random(f"{self.seed}/{self.layer}/{redraws}").getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        projection: Tensor = self.features.projection
        features, dim = projection.shape
        drawn = draw_projection(
            features, dim, generator, orthogonal=self.orthogonal, fixed_length=self.fixed_length
        )
        with torch.no_grad():
            projection.copy_(drawn)
            self.redraws.fill_(redraws)
        self._known.note(self.redraws, redraws)

    @torch.jit.unused
    def set_num_updates(self, updates: int) -> None:
        """What fairseq's trainer, and nothing else, says of the updates made: draw again if it is time."""
        redraws = updates // self.interval if self.interval else 0
        if redraws != self._known.read(self.redraws):
            self.draw(redraws)
