"""Sums over data-parallel workers, for norms whose statistics are those of the whole batch."""

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["is_parallel", "sum_over_workers"]


def is_parallel() -> bool:
    """Whether the process is one of several data-parallel workers."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """Every worker's loss depends on every worker's summand, so the backward sums as well."""

    @staticmethod
    def forward(ctx, summand: Tensor) -> Tensor:
        total = summand.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sum_over_workers(summand: Tensor) -> Tensor:
    """The sum of a tensor over all workers, on each of them; in a single process the tensor itself."""
    return _Sum.apply(summand) if is_parallel() else summand
