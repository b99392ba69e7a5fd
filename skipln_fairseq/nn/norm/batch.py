"""BatchNorm over the real tokens of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from .workers import sum_over_workers

__all__ = ["BatchNorm", "SingleStatistics", "real_tokens", "standing_in"]


def real_tokens(v: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """The positions that are not padding, (tokens, dim), in single precision at least."""
    real = v.reshape(-1, v.size(-1)) if padding_mask is None else v[~padding_mask]
    return real.to(torch.promote_types(v.dtype, torch.float32))


class SingleStatistics(nn.Module):
    """A module whose own buffers stay in single precision when the model is made half: squares overflow there."""

    counts = True
    """Whether what passes is part of the statistics, see :func:`standing_in`."""

    def _apply(self, fn, recurse=True):
        before = {
            name: buffer for name, buffer in self.named_buffers(recurse=False) if buffer.is_floating_point()
        }
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = getattr(self, name)
            if after.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, buffer.to(after.device))
        return self


@contextmanager
def standing_in(model: nn.Module) -> Iterator[None]:
    """Have what passes through ``model`` in here be no part of any statistics, on other workers neither.

    Of data-parallel workers, those that have no batch left repeat an old one, whose gradient the trainer ignores. The
    forward has to be in here, and is what the backward goes by.
    """
    norms = [module for module in model.modules() if isinstance(module, SingleStatistics)]
    for norm in norms:
        norm.counts = False
    try:
        yield
    finally:
        for norm in norms:
            norm.counts = True


class BatchNorm(SingleStatistics):
    """``w ⊙ (v − μ) / √(σ² + eps) + b`` with μ and σ² of each feature over the batch's real tokens.

    Training takes the biased variance of the batch, summed over all data-parallel workers, and moves running
    averages (of the unbiased one) once per batch; a forward without gradients, such as the first of
    ``--checkpoint-activations``, leaves them alone. Evaluation takes the running averages. In training every
    output therefore depends on the other sentences of the batch and on later positions.

    Source: Ioffe, Szegedy 2015, arXiv:1502.03167; parameter names, eps and momentum are torch's.
    """

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
        real = real_tokens(v, padding_mask)
        real = real if self.counts else real[:0]
        count = sum_over_workers(real.new_tensor(real.size(0)))
        if not self.counts and count == 0:
            return self.running_mean, self.running_var
        count = count.clamp(min=1)
        mean = sum_over_workers(real.sum(0)) / count
        variance = sum_over_workers((real - mean).square().sum(0)) / count
        if torch.is_grad_enabled():
            unbiased = variance.detach() * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.detach().to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        return mean, variance
