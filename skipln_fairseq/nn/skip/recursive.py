"""The recursive skip with normalisation (rSkip+LN), which this project is about."""

from collections.abc import Iterable
from typing import Optional

from torch import Tensor, nn

from .base import Chain, Skip

__all__ = ["RecursiveSkip"]


class RecursiveSkip(Skip):
    """The sum inside rSkip+LN's last norm: ``x + y_{K−1}``.

    With ``y_0 = F(x)`` and ``y_k = N_k(x + y_{k−1})`` this is the argument of N_K; the placement
    applies that last norm, as it does for every other rule, so order 1 is the plain skip. F is
    evaluated once whatever the order.

    Source: Liu, Ren, Zhang, Sun, Zou: "Rethinking Skip Connection with Layer Normalization in Transformers
    and ResNets", COLING 2020, arXiv:2105.07205, as far as its abstract and secondary sources give it (see
    "Fidelity" in the README).

    Args:
        norms: N_1 … N_{K−1}, in this order; none for order 1.
    """

    def __init__(self, norms: Iterable[nn.Module]):
        super().__init__()
        self.norms = nn.ModuleList(norms)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        y = f_x
        for norm in self.norms:
            y = norm(stream + y, padding_mask)
        return stream + y

    def chain(self) -> Chain:
        return Chain(1.0, self.norms)
