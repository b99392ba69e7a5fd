"""Softmax attention by the quickest form that torch has for the tensors at hand."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["additive_mask", "softmax_attention"]

HALF = (torch.float16, torch.bfloat16)
# keys up to which the weights are written out: from 512 on torch's form is as quick, and keeps less
LONGEST = 256


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """softmax(q kᵀ / √d + mask) v for each head, the weights dropped with a probability.

    torch's fused form, except for half precision on a CPU, where its backward pass takes several times as long as the
    five products that it consists of: those are multiplied in half precision there, the softmax between them is
    computed in single precision, and the weights are kept.

    Args:
        q: (time, batch, heads, d), also a view of a larger tensor.
        k, v: (keys, batch, heads, d).
        mask: added to the scores, of their type, broadcast to (batch, heads, time, keys); finite where a row may
            have nothing else, as :func:`additive_mask` makes it.
        causal: whether ``mask`` hides later positions and nothing else, so that it need not be read.
        dropout: the probability in [0, 1) with which a weight is dropped.

    Returns:
        (time, batch, heads · d)
    """
    if q.device.type == "cpu" and q.dtype in HALF and k.size(0) <= LONGEST and dropout < 1:
        return _WrittenOut.apply(q, k, v, mask, dropout)
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    mask = None if causal else mask
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
    return out.permute(2, 0, 1, 3).flatten(2)


def additive_mask(padding: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Both masks as one, finite: a row with nothing to attend to gets some mean of the values and not NaN.

    Args:
        padding: (batch, keys), true at keys to leave out, or None.
        mask: (time, keys), added to the scores, or None.
        dtype: of the scores.

    Returns:
        broadcastable to (batch, heads, time, keys), or None without masks
    """
    forbidden = torch.finfo(dtype).min / 4  # two of them and a score are within the type's range
    if mask is not None:
        mask = mask.clamp(min=forbidden).to(dtype)
    if padding is None:
        return mask
    left_out = torch.zeros(padding.shape, dtype=dtype, device=padding.device)
    left_out = left_out.masked_fill_(padding, forbidden)[:, None, None]
    return left_out if mask is None else left_out + mask


def _by_head(x: Tensor) -> Tensor:
    """(time, batch, heads, d) to (batch · heads, time, d), copied, as products of strided halves are slow."""
    return x.flatten(1, 2).transpose(0, 1).contiguous()


def _by_time(x: Tensor, shape: torch.Size) -> Tensor:
    """Back to (time, batch, heads, d)."""
    return x.transpose(0, 1).reshape(shape)


class _WrittenOut(torch.autograd.Function):
    """softmax(s) v with s = q kᵀ / √d + mask, the weights w = softmax(s) and their dropout m kept for

    dv = (w∘m)ᵀ g,  ds = w ∘ (dw − Σ dw∘w) with dw = (g vᵀ)∘m,  dq = ds k / √d,  dk = dsᵀ q / √d.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        time, batch, heads, dim = q.shape
        ctx.scale, ctx.dropout = dim**-0.5, dropout
        # q is scaled and not the scores, which float16 may not hold
        by_head = [_by_head(x) for x in (q * ctx.scale, k, v)]
        precise = torch.promote_types(q.dtype, torch.float32)
        scores = torch.bmm(by_head[0], by_head[1].transpose(1, 2)).to(precise)
        if mask is not None:
            scores.view(batch, heads, time, k.size(0)).add_(mask)
        weights = scores.softmax(-1).to(q.dtype)
        dropped, kept = torch.native_dropout(weights, dropout, True) if dropout else (weights, None)
        ctx.save_for_backward(*by_head, weights, kept)
        ctx.queries, ctx.keys = q.shape, k.shape
        return _by_time(torch.bmm(dropped, by_head[2]), q.shape).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, kept = ctx.saved_tensors
        grad = _by_head(grad.reshape(ctx.queries))
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        dropped = weights
        if kept is not None:
            factor = kept.to(weights.dtype).mul_(1 / (1 - ctx.dropout))
            grad_weights, dropped = grad_weights.mul_(factor), weights * factor
        grad_v = torch.bmm(dropped.transpose(1, 2), grad)
        precise = torch.promote_types(weights.dtype, torch.float32)
        grad_scores = torch.ops.aten._softmax_backward_data(
            grad_weights.to(precise), weights.to(precise), -1, precise
        )
        grad_scores = grad_scores.to(q.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        return (
            _by_time(grad_q, ctx.queries),
            _by_time(grad_k, ctx.keys),
            _by_time(grad_v, ctx.keys),
            None,
            None,
        )
