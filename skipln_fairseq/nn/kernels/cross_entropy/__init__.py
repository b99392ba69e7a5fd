"""Cross-entropy over a large vocabulary without a second tensor of the logits' size.

It is one operator of torch's forward and one backward (:mod:`..operators`), of two forms, which agree within the
rounding of their type: ``cpu`` (C, compiled on first use) and ``blocks`` (torch's operations, any device and type).
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..operators import below_autograd, define, differentiate
from . import blocks, cpu

__all__ = ["cross_entropies_"]


def cross_entropies_(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each row with its target and, summed over the vocabulary, with each of its words:

        nll = −log p(target),  all = −Σ_v log p(v),  p = softmax(logits),  both 0 where the target is ignored.

    Computed in single precision, or double for double, a few rows at a time. The backward pass writes

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
        ValueError: for a leaf that requires a gradient, or targets of another type or number.
        IndexError or RuntimeError: for a target that is none of the V.
    """
    if torch.is_grad_enabled() and logits.is_leaf and logits.requires_grad:
        raise ValueError("the gradient would be written over these logits, which are no operation's result")
    nll, every, _ = _operator(logits.contiguous(), target, ignored)
    return nll, every


def _form(logits: Tensor, target: Tensor, *rows: Tensor) -> ModuleType:
    """The form to compute with, which may rely on what is checked here."""
    if target.dtype != torch.long or any(row.shape != logits.shape[:1] for row in (target, *rows)):
        kind = f"{str(target.dtype).removeprefix('torch.')} {tuple(target.shape)}"
        raise ValueError(
            f"targets of {tuple(logits.shape)} logits are {kind}: valid is long {(len(logits),)}"
        )
    return cpu if cpu.fits(logits) else blocks


def _forward(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
    return _form(logits, target).forward(logits, target, ignored)


def _fake_forward(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, ...]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return tuple(logits.new_empty(logits.size(0), dtype=dtype) for _ in range(3))


def _backward_(
    logits: Tensor, target: Tensor, ignored: int, log_sum: Tensor, grad_nll: Tensor, grad_every: Tensor
) -> None:
    form = _form(logits, target, log_sum, grad_nll, grad_every)
    form.backward_(logits, target, ignored, log_sum, grad_nll, grad_every)


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
