"""DetachNorm of the mean only."""

from typing import Tuple

import torch
from torch import Tensor

from ..kernels.chain import Part
from ..variant import Paper
from .base import NORMS
from .detached import Detached

__all__ = ["DetachMeanNorm"]


@NORMS.declare(
    "detach-mean",
    title="DetachNorm, mean only",
    equation="(v − μ)/σ, μ a constant in the backward",
    paper=Paper("Xu et al. 2019", "1911.07013"),
    kind="token",
)
class DetachMeanNorm(Detached):
    """DetachNorm of the mean only: the deviation's gradient ``−y · mean(g ⊙ y) / σ`` stays."""

    kind = Detached.kind | Part.DEVIATION

    def moments(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(v, dim=-1, correction=0, keepdim=True)
        return mean.detach(), (variance + self.eps).sqrt()
