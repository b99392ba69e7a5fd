"""The effective proportion x : F inside a connection's last sum.

Every skip rule makes a sum ``a ⊙ x + b ⊙ F(x) + const`` once the statistics of the norms inside it count as
constants, and says what a and b are (:meth:`.Skip.coefficients`). For example::

    plain, b2t, dual     (1, 1)           b2t's third term, the layer's own input, counts for neither side
    expanded, deepnorm   (λ, 1)
    learned              (λ, 1)           λ learned, one or one a feature
    admin                (ω, 1)
    rezero, layerscale   (1, s)           s = 0 gives the ratio ∞
    highway              (1 − g, g)       the gate g counts as a constant too
    recursive, order K   a/b = r_K        r_1 = 1, r_{k+1} = r_k + ∏_{j≤k} σ_j/w_j

F(x) is what reaches the sum, so in sandwich and res-post placement the normed branch. σ_j/w_j is the inverse of the
j-th inner norm's factor, for each token and feature. It is *not defined* where an inner norm has no such factor: for
Dynamic Tanh in a recursion of order 2 and more, since tanh has no statistics to hold constant. There the
ratio is left blank. AdaNorm's bracket counts as a constant, as it does in its
backward. PowerNorm, once warm, is read after the batch has moved its running mean.

Source: worked out from the definitions of Liu et al. 2020, arXiv:2105.07205; a test holds it against autograd.
"""

import torch
from torch import Tensor, nn

from ..nn.norm.statistics import real_tokens
from ..nn.skip.base import Coefficients

__all__ = ["coefficients", "ratios"]


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
    return skip.coefficients(f_x, x, padding_mask)


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
