"""The cross-entropies by torch's operations, block by block of rows: any device and type."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["backward_", "forward"]

# of one block of rows in single precision: within a CPU core's cache, and large enough to fill a GPU
BLOCK_BYTES = {"cpu": 2**19, "cuda": 2**27}


def _blocks(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of rows, each with a buffer for its rows in the type to compute in."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    rows, size = logits.shape
    step = max(1, BLOCK_BYTES.get(logits.device.type, BLOCK_BYTES["cuda"]) // (size * dtype.itemsize))
    buffer = torch.empty(min(step, rows), size, dtype=dtype, device=logits.device)
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        yield block, buffer[: block.stop - start]


def forward(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
    """With z = logits − max: nll = log Σ exp z − z_target, all = V log Σ exp z − Σ z; and log Σ exp of the logits."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    nll, every, log_sum = (logits.new_empty(len(logits), dtype=dtype) for _ in range(3))
    column = target[:, None]
    for block, z in _blocks(logits):
        largest = z.copy_(logits[block]).amax(1, keepdim=True)
        z.sub_(largest)
        of_target, total = z.gather(1, column[block])[:, 0], z.sum(1)
        log = z.exp_().sum(1).log_()
        torch.sub(log, of_target, out=nll[block])
        torch.sub(log * z.size(1), total, out=every[block])
        torch.add(log, largest[:, 0], out=log_sum[block])
    left_out = target.eq(ignored)
    return nll.masked_fill_(left_out, 0), every.masked_fill_(left_out, 0), log_sum


def backward_(
    logits: Tensor, target: Tensor, ignored: int, log_sum: Tensor, grad_nll: Tensor, grad_every: Tensor
) -> None:
    """Write the gradient over the logits."""
    left_out = target.eq(ignored)
    of_target, of_all, log_sum, column = (
        x[:, None]
        for x in (
            grad_nll.masked_fill(left_out, 0),
            grad_every.masked_fill(left_out, 0),
            log_sum,
            target,
        )
    )
    of_p = of_target + logits.size(1) * of_all
    for block, z in _blocks(logits):
        z.copy_(logits[block]).sub_(log_sum[block]).exp_().mul_(of_p[block]).sub_(of_all[block])
        z.scatter_add_(1, column[block], -of_target[block])
        logits[block].copy_(z)
