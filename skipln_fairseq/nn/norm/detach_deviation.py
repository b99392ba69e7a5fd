"""DetachNorm of the deviation only."""

from typing import Tuple

import torch
from torch import Tensor

from ..kernels.chain import Part
from ..variant import Paper
from .base import NORMS
from .detached import Detached

__all__ = ["DetachDeviationNorm"]


@NORMS.declare(
    "detach-deviation",
    title="DetachNorm, deviation only",
    equation="(v − μ)/σ, σ a constant in the backward",
    paper=Paper("Xu et al. 2019", "1911.07013"),
    kind="token",
)
class DetachDeviationNorm(Detached):
    """DetachNorm of the deviation only: the mean's gradient ``−mean(g) / σ`` stays."""

    kind = Detached.kind | Part.MEAN

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v, dim=-1, correction=0, keepdim=True)
        return mean, (variance.detach() + self.eps).sqrt()
