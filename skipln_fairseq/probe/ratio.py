"""The effective proportion x : F inside a connection's last sum.

Every skip rule makes a sum ``a ⊙ x + b ⊙ F(x) + const`` once the statistics of the norms inside it count as
constants. :func:`coefficients` gives (a, b)::

    plain, b2t, dual     (1, 1)           b2t's third term, the layer's own input, counts for neither side
    expanded, deepnorm   (λ, 1)
    learned              (λ, 1)           λ learned, one or one a feature
    admin                (ω, 1)
    rezero, layerscale   (1, s)           s = 0 gives the ratio ∞
    highway              (1 − g, g)       the gate g counts as a constant too
    recursive, order K   a/b = r_K        r_1 = 1, r_{k+1} = r_k + ∏_{j≤k} σ_j/w_j

F(x) is what reaches the sum, so in sandwich and res-post placement the normed branch. σ_j/w_j is the inverse of the
j-th inner norm's factor, for each token and feature. It is *not defined* where an inner norm has no such factor: for
Dynamic Tanh in a recursion of order 2 and more, since tanh has no statistics to hold constant. There, and for a skip
rule that this table does not have, the ratio is left blank. AdaNorm's bracket counts as a constant, as it does in its
backward. PowerNorm, once warm, is read after the batch has moved its running mean.

Source: worked out from the definitions of Liu et al. 2020, arXiv:2105.07205; a test holds it against autograd.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..nn import norm as norms
from ..nn import skip as skips
from ..nn.norm.batch import real_tokens
from ..nn.norm.workers import sum_over_workers

__all__ = ["coefficients", "ratios"]

Coefficients = tuple[Tensor, Tensor]


def _feature_mean(norm: nn.Module, v: Tensor, padding_mask: Tensor | None) -> Tensor:
    return v.mean(-1, keepdim=True)


def _zero(norm: nn.Module, v: Tensor, padding_mask: Tensor | None) -> Tensor:
    return v.new_zeros(())


def _batch_mean(norm: nn.Module, v: Tensor, padding_mask: Tensor | None) -> Tensor:
    if not norm.training:
        return norm.running_mean
    real = real_tokens(v, padding_mask)
    return sum_over_workers(real.sum(0)) / sum_over_workers(real.new_tensor(real.size(0)))


CENTRES: dict[type, Callable[[nn.Module, Tensor, Tensor | None], Tensor]] = {
    norms.LayerNorm: _feature_mean,
    norms.LayerNormSimple: _feature_mean,
    norms.DetachNorm: _feature_mean,
    norms.DetachMeanNorm: _feature_mean,
    norms.DetachDeviationNorm: _feature_mean,
    norms.AdaNorm: _feature_mean,
    norms.RMSNorm: _zero,
    norms.ScaleNorm: _zero,
    norms.PowerNorm: _zero,
    norms.BatchNorm: _batch_mean,
}
"""What each norm takes away before it scales: ``N(v) = factor ⊙ (v − centre) + bias``."""


def _recursive(skip: skips.RecursiveSkip, f_x: Tensor, x: Tensor, padding_mask: Tensor | None):
    a = b = torch.ones_like(x)
    y = f_x
    for norm in skip.norms:
        if type(norm) not in CENTRES:
            return None
        v = x + y
        # without gradients a norm moves no running statistics, so training goes on as if unwatched
        y = norm(v, padding_mask)
        bias = getattr(norm, "bias", None)
        centred = v - CENTRES[type(norm)](norm, v, padding_mask)
        factor = (y if bias is None else y - bias) / centred
        a, b = 1 + factor * a, factor * b
    return a, b


def _plain(skip: nn.Module, f_x: Tensor, x: Tensor, padding_mask: Tensor | None) -> Coefficients:
    return x.new_ones(()), x.new_ones(())


def _scaled_input(skip: nn.Module, f_x: Tensor, x: Tensor, padding_mask: Tensor | None) -> Coefficients:
    return torch.as_tensor(skip.scale, dtype=x.dtype, device=x.device), x.new_ones(())


def _gated(skip: skips.HighwaySkip, f_x: Tensor, x: Tensor, padding_mask: Tensor | None) -> Coefficients:
    gate = torch.sigmoid(skip.gate(x))
    return 1 - gate, gate


COEFFICIENTS: dict[type, Callable[..., Coefficients | None]] = {
    skips.PlainSkip: _plain,
    **dict.fromkeys(skips.BOTTOM_TO_TOP.values(), _plain),
    skips.DualSkip: _plain,
    skips.ExpandedSkip: _scaled_input,
    skips.LearnedSkip: _scaled_input,
    skips.AdminSkip: lambda skip, f_x, x, mask: (skip.profile + skip.shift, x.new_ones(())),
    skips.BranchScale: lambda skip, f_x, x, mask: (x.new_ones(()), skip.scale),
    skips.HighwaySkip: _gated,
    skips.RecursiveSkip: _recursive,
}


@torch.no_grad()
def coefficients(
    skip: nn.Module, f_x: Tensor, x: Tensor, padding_mask: Tensor | None = None
) -> Coefficients | None:
    """a and b of ``a ⊙ x + b ⊙ F(x) + const``, or None where they are not defined.

    Args:
        skip: a rule of ``SKIPS``.
        f_x: F(x), (…, dim).
        x: the sub-layer's input, (…, dim).
        padding_mask: (…), true at padding, or None.

    Returns:
        Two tensors that broadcast to (…, dim).
    """
    rule = COEFFICIENTS.get(type(skip))
    return rule and rule(skip, f_x, x, padding_mask)


@torch.no_grad()
def ratios(
    skip: nn.Module, f_x: Tensor, x: Tensor, padding_mask: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """The ratio x : F two ways, over all features of all real tokens, or None where it is not defined.

    Returns:
        the median of ``|a / b|``, and ``‖a ⊙ x‖₂ / ‖b ⊙ F(x)‖₂``; scalars without unit.
    """
    found = coefficients(skip, f_x, x, padding_mask)
    if found is None:
        return None
    a, b, x, f_x = (real_tokens(part.expand_as(x), padding_mask) for part in (*found, x, f_x))
    # a feature that lies exactly at an inner norm's centre gives 0/0 and says nothing
    return (a / b).abs().nanmedian(), (a * x).nan_to_num().norm() / (b * f_x).nan_to_num().norm()
