"""BatchNorm over the real tokens of a batch."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..variant import Paper
from .base import NORMS, Norm
from .statistics import SingleStatistics, summands
from .workers import sum_over_workers

__all__ = ["BatchNorm"]


@NORMS.declare(
    "batch",
    title="BatchNorm",
    equation="w ⊙ (v − μ)/σ + b, μ and σ over the batch's real tokens",
    paper=Paper("Ioffe & Szegedy 2015", "1502.03167"),
    kind="batch",
)
class BatchNorm(Norm, SingleStatistics):
    """``w ⊙ (v − μ) / √(σ² + eps) + b`` with μ and σ² of each feature over the batch's real tokens.

    Training takes the biased variance of the batch, summed over all data-parallel workers, and moves running
    averages (of the unbiased one) once per batch; a forward without gradients, such as the first of
    ``--checkpoint-activations``, leaves them alone. Evaluation takes the running averages. In training every
    output therefore depends on the other sentences of the batch and on later positions.

    Source: Ioffe, Szegedy 2015, arXiv:1502.03167; parameter names, eps and momentum are torch's.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = self._batch_moments(v, padding_mask)
        # one product and one sum per number, as in torch's own
        scale = (variance + self.eps).rsqrt() * self.weight
        return (v * scale + (self.bias - mean * scale)).to(v.dtype)

    @torch.jit.unused
    def _batch_moments(self, v: Tensor, padding_mask: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
        real, tokens = summands(v, padding_mask, counts=self.counts)
        count = sum_over_workers(tokens)
        if not self.counts and count == 0:
            return self.running_mean, self.running_var
        # of no token there is no mean, and of one no unbiased variance
        rates = [self.momentum * (count > least).to(self.running_mean) for least in (0, 1)]
        count = count.clamp(min=1)
        mean = sum_over_workers(real.sum(0)) / count
        deviations, _ = summands(v, padding_mask, mean, self.counts)
        variance = sum_over_workers(deviations.square().sum(0)) / count
        if torch.is_grad_enabled():
            unbiased = variance.detach() * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.detach().to(self.running_mean), rates[0])
            self.running_var.lerp_(unbiased.to(self.running_var), rates[1])
        return mean, variance

    def centre(self, v: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
        if not self.training:
            return self.running_mean
        real, tokens = summands(v, padding_mask)
        return sum_over_workers(real.sum(0)) / sum_over_workers(tokens)
