"""The recursive skip with normalisation (rSkip+LN), which this project is about."""

from collections.abc import Iterable
from typing import Optional

import torch
from torch import Tensor, nn

from ..norm.base import Norm
from ..variant import Option, Paper
from .base import NORMED, SKIPS, Coefficients, Link, Site, Skip

__all__ = ["RecursiveSkip"]


@SKIPS.declare(
    "recursive",
    title="rSkip+LN",
    equation="y₁ = N(x + F(x)), yₖ = N(x + yₖ₋₁)",
    paper=Paper("Liu et al. 2020a", "2105.07205"),
    options=(
        Option("order", "skip_order", "order of the recursive skip", "K", int, least=1, drawn=(1, 4)),
        Option(
            "share",
            "share_skip_norms",
            "one set of norm parameters for all steps of the recursive skip",
            default=False,
        ),
    ),
    goes_with=((NORMED, ("post",)),),
    example="--skip-order 2",
)
class RecursiveSkip(Skip):
    """The sum inside rSkip+LN's last norm: ``x + y_{K−1}``.

    With ``y_0 = F(x)`` and ``y_k = N_k(x + y_{k−1})`` this is the argument of N_K; the placement
    applies that last norm, as it does for every other rule, so order 1 is the plain skip. F is
    evaluated once whatever the order.

    Its proportion x : F is r_K with ``r_1 = 1, r_{k+1} = r_k + ∏_{j≤k} σ_j/w_j``, where σ_j/w_j is the inverse of the
    j-th inner norm's factor, for each token and feature: worked out from the definition, and held against autograd.
    It is not defined where an inner norm has no such factor (Dynamic Tanh).

    Source: Liu, Ren, Zhang, Sun, Zou: "Rethinking Skip Connection with Layer Normalization in Transformers
    and ResNets", COLING 2020, arXiv:2105.07205, as far as its abstract and secondary sources give it (see
    "Fidelity" in docs/connections.md).

    Args:
        norms: N_1 … N_{K−1}, in this order; none for order 1.
    """

    def __init__(self, norms: Iterable[nn.Module]):
        super().__init__()
        self.norms = nn.ModuleList(norms)

    @classmethod
    def build(cls, site: Site, order: int, share: bool = False) -> "RecursiveSkip":
        return cls(site.make_norm(shared=share) for _ in range(order - 1))

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        y = f_x
        for norm in self.norms:
            y = norm(stream + y, padding_mask)
        return stream + y

    def chain(self) -> list[Link]:
        return [*(Link(norm=norm) for norm in self.norms), Link()]

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Optional[Coefficients]:
        a = b = torch.ones_like(x)
        y = f_x
        for norm in self.norms:
            assert isinstance(norm, Norm)
            v = x + y
            centre = norm.centre(v, padding_mask)
            if centre is None:
                return None
            # without gradients a norm moves no running statistics, so training goes on as if unwatched
            y = norm(v, padding_mask)
            bias = getattr(norm, "bias", None)
            factor = (y if bias is None else y - bias) / (v - centre)
            a, b = 1 + factor * a, factor * b
        return a, b
