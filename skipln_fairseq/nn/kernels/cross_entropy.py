"""Cross-entropy over a large vocabulary without a second tensor of the logits' size."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .operators import below_autograd, define, differentiate

__all__ = ["cross_entropies_"]

# of one block of rows in single precision: within a CPU core's cache, and large enough to fill a GPU
BLOCK_BYTES = {"cpu": 2**19, "cuda": 2**27}


def cross_entropies_(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each row with its target and, summed over the vocabulary, with each of its words:

        nll = −log p(target),  all = −Σ_v log p(v),  p = softmax(logits),  both 0 where the target is ignored.

    Computed in single precision, or double for double, block by block of rows. The backward pass writes

        (nll' + V all') p − nll' 1_target − all'

    into the logits' memory, rounded to their type. So the logits have to be the caller's alone: the result of an
    operation, read by nobody after the backward pass. A second backward pass through the same graph raises
    RuntimeError, and so does any other operation's that saved the logits.

    Args:
        logits: (N, V), of any floating type.
        target: (N,), long.
        ignored: the target of rows that do not count, itself one of the V.

    Returns:
        nll and all, (N,) each

    Raises:
        ValueError: for a leaf that requires a gradient.
    """
    if torch.is_grad_enabled() and logits.is_leaf and logits.requires_grad:
        raise ValueError("the gradient would be written over these logits, which are no operation's result")
    nll, every, _ = _operator(logits.contiguous(), target, ignored)
    return nll, every


def _blocks(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of rows, each with a buffer for its rows in the type to compute in."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    rows, size = logits.shape
    step = max(1, BLOCK_BYTES.get(logits.device.type, BLOCK_BYTES["cuda"]) // (size * dtype.itemsize))
    buffer = torch.empty(min(step, rows), size, dtype=dtype, device=logits.device)
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        yield block, buffer[: block.stop - start]


def _forward(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
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


def _fake_forward(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, ...]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return tuple(logits.new_empty(logits.size(0), dtype=dtype) for _ in range(3))


def _backward_(
    logits: Tensor, target: Tensor, ignored: int, log_sum: Tensor, grad_nll: Tensor, grad_every: Tensor
) -> None:
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


_operator = define(
    "cross_entropies(Tensor logits, Tensor target, int ignored) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
_operator_backward_ = define(
    "cross_entropies_backward_(Tensor(a!) logits, Tensor target, int ignored, Tensor log_sum, Tensor grad_nll, "
    "Tensor grad_every) -> ()",
    _backward_,
    lambda *inputs: None,
)


class _CrossEntropies(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
        with below_autograd():
            nll, every, log_sum = _operator(logits, target, ignored)
        ctx.ignored = ignored
        ctx.save_for_backward(logits, target, log_sum)
        ctx.mark_non_differentiable(log_sum)
        return nll, every, log_sum

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_nll: Tensor, grad_every: Tensor, _) -> tuple[Tensor | None, ...]:
        logits, target, log_sum = ctx.saved_tensors
        logits = logits.detach()
        _operator_backward_(logits, target, ctx.ignored, log_sum, grad_nll, grad_every)
        return logits, None, None


differentiate(_operator, _CrossEntropies.apply)
