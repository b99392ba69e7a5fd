"""DetachNorm."""

from typing import Tuple

import torch
from torch import Tensor

from ..variant import Paper
from .base import NORMS
from .detached import Detached

__all__ = ["DetachNorm"]


@NORMS.declare(
    "detach",
    title="DetachNorm",
    equation="(v − μ)/σ, μ and σ constants in the backward",
    paper=Paper("Xu et al. 2019", "1911.07013"),
    kind="token",
)
class DetachNorm(Detached):
    """DetachNorm: mean and deviation are constants, so the backward is ``g / σ``."""

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v.detach(), dim=-1, correction=0, keepdim=True)
        return mean, (variance + self.eps).sqrt()
