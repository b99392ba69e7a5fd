"""Random feature maps φ with E[φ(x)·φ(y)] = the kernel: ``KERNELS`` is the registry behind ``--favor-kernel``.

Every map takes x (…, d), already scaled by d^(−1/4), and returns two tensors: features (…, count) and the logarithm
of a factor common to them, (…, 1): ``φ(x) = exp(log_scale) · features``. The factor of a query cancels in attention,
that of a key is kept apart until a running maximum has been taken out, so that nothing overflows.

Source: Choromanski et al., "Rethinking Attention with Performers", ICLR 2021, arXiv:2009.14794.
"""

import math
from typing import Tuple

import torch
from torch import Tensor, nn

__all__ = [
    "KERNELS",
    "FeatureMap",
    "HyperbolicFeatures",
    "PositiveFeatures",
    "ReLUFeatures",
    "TrigonometricFeatures",
    "draw_projection",
]


def draw_projection(
    features: int,
    dim: int,
    generator: torch.Generator,
    *,
    orthogonal: bool = True,
    fixed_length: bool = False,
) -> Tensor:
    """Draw ω (features, dim), each row N(0, I) unless its length is fixed.

    Args:
        features: m, the number of rows.
        dim: d, the dimension of a head.
        generator: of the random numbers, in float64 on the CPU, so that every worker draws the same.
        orthogonal: whether the rows of each block of dim rows are orthogonal (blocks are independent).
        fixed_length: whether every row has the length √dim (SMREG) and not that of a Gaussian vector.
    """
    blocks = []
    for first in range(0, features, dim):
        directions = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
        lengths = torch.randn(dim, dim, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
        if fixed_length:
            lengths = torch.full_like(lengths, math.sqrt(dim))
        if orthogonal:
            q, r = torch.linalg.qr(directions)
            directions = (q * r.diagonal().sign()).t()  # uniform only with the signs that QR leaves open
        blocks.append((lengths * nn.functional.normalize(directions, dim=1))[: features - first])
    return torch.cat(blocks)


class FeatureMap(nn.Module):
    """A feature map with its projection ω, a buffer (m, d), so that checkpoints hold what was drawn.

    Args:
        features: m, the number of ω vectors.
        dim: d, the dimension of a head.

    Attributes:
        count: the number of features, m or 2m.
    """

    copies = 1
    projection: Tensor

    def __init__(self, features: int, dim: int):
        super().__init__()
        self.count = self.copies * features
        self.register_buffer("projection", torch.zeros(features, dim))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        return x @ self.projection.to(x.dtype).t()

    def half_square(self, x: Tensor) -> Tensor:
        return x.square().sum(-1, keepdim=True) / 2

    def exponential(self, exponents: Tensor) -> Tuple[Tensor, Tensor]:
        """exp(exponents)/√count, the largest exponent taken out (a constant in the backward: it cancels)."""
        largest = exponents.detach().amax(-1, keepdim=True)
        return (exponents - largest).exp() / math.sqrt(self.count), largest


class PositiveFeatures(FeatureMap):
    """Softmax kernel exp(x·y): ``φ(x) = exp(ωx − ‖x‖²/2)/√m``."""

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return self.exponential(self.project(x) - self.half_square(x))


class HyperbolicFeatures(FeatureMap):
    """Softmax kernel: ``φ(x) = (exp(ωx), exp(−ωx)) exp(−‖x‖²/2)/√(2m)``, twice as many features."""

    copies = 2

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        u = self.project(x)
        return self.exponential(torch.cat((u, -u), -1) - self.half_square(x))


class TrigonometricFeatures(FeatureMap):
    """Softmax kernel: ``φ(x) = (cos ωx, sin ωx) exp(‖x‖²/2)/√m``, twice as many features, of both signs.

    For comparison only: the sum that normalises attention may come near zero.
    """

    copies = 2

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        u = self.project(x)
        return torch.cat((u.cos(), u.sin()), -1) / math.sqrt(self.projection.size(0)), self.half_square(x)


class ReLUFeatures(FeatureMap):
    """Generalised kernel: ``φ(x) = (ReLU(ωx) + 10⁻³)/√m``; it estimates no softmax."""

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        features = (torch.relu(self.project(x)) + 1e-3) / math.sqrt(self.count)
        return features, torch.zeros_like(x[..., :1])


KERNELS: dict[str, type[FeatureMap]] = {
    "positive": PositiveFeatures,
    "hyperbolic": HyperbolicFeatures,
    "trigonometric": TrigonometricFeatures,
    "relu": ReLUFeatures,
}
