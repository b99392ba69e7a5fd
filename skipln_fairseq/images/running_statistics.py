"""Running statistics of BatchNorms that stay true in half precision and under data-parallel training."""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from ..common.errors import UserError
from ..nn.norm.statistics import SingleStatistics
from ..nn.norm.workers import is_parallel, sum_over_workers

__all__ = ["BatchNorm1d", "BatchNorm2d", "average_running_statistics"]


class _BatchNorm(SingleStatistics):
    """torch's, with running statistics, and what is computed from them, in single precision at least.

    In bfloat16 a running mean stops where a tenth of the difference is below half of its last bit, and in float16 a
    variance above 65,504 is infinite.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.size(1):
            raise UserError("a batch of one image has no variance for BatchNorm: --batch-size is too small")
        affine = (
            None if each is None else each.to(self.running_mean.dtype) for each in (self.weight, self.bias)
        )
        statistics = (self.running_mean, self.running_var)
        momentum = self.momentum if self.counts else 0.0
        return F.batch_norm(x, *statistics, *affine, self.training, momentum, self.eps)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Over (N, C)."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Over (N, C, H, W)."""


@torch.no_grad()
def average_running_statistics(model: nn.Module) -> None:
    """Give all data-parallel workers the mean of their running statistics.

    What is saved without this before it holds those of the first worker, as torch's own data-parallel models do.
    """
    if not is_parallel():
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for statistic in (module.running_mean, module.running_var):
                statistic.copy_(sum_over_workers(statistic) / dist.get_world_size())
