"""Attention Residuals."""

from typing import List, Optional

import torch
from torch import Tensor, nn

from ..skip.base import NORMED, Coefficients, Skip
from ..variant import Option, Paper
from .base import MIXINGS, Mixing, Place, Remembering, weighted_sum

__all__ = ["AttentionResiduals", "BranchAlone"]


class BranchAlone(Skip):
    """F(x), without any x: what is written is the branch, and the mixing finds the way back."""

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return f_x

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Optional[Coefficients]:
        return None


@MIXINGS.declare(
    "attention",
    title="Attention Residuals",
    equation="hₗ = Σᵢ aᵢ vᵢ instead of x + F(x), vᵢ = F(N(hᵢ)), v₀ the embedding, a = softmax(w · RMSNorm(vᵢ)), "
    "w from 0; block form: v summed over S sub-layers",
    paper=Paper("Kimi Team 2026", "2603.15031"),
    options=(
        Option(
            "size",
            "attention_residual_size",
            "sub-layers whose outputs are summed into one value, 1 is the full form (default: 1)",
            "S",
            int,
            1,
            default=1,
            drawn=(1, 4),
        ),
    ),
    goes_with=((NORMED, ("pre",)),),
    example="--skip-type plain --norm-placement pre",
)
class AttentionResiduals(Mixing):
    """``h = Σ_i a_i v_i``, ``a = softmax_i(w · (g ⊙ RMSNorm(v_i)))`` before every sub-layer and at the stack's end.

    v_0 is the embedding. In the full form (S = 1) v_i is the output of sub-layer i, F(N(h_i)): there is no ``x +`` any
    more, so this stands in the place of the skip rule, and Pre-LN's norm before F stays. In the block form each S
    sub-layers, counted through the stack and across its layers, sum their outputs into one value, and the one that is
    not full yet takes part as it is.
    w (dim,) is learned, one for each place, and starts as 0, which is the plain mean; g is the RMSNorm's gain, one for
    each place too, as the released model of the authors has it (the paper's equation writes RMSNorm alone). Before the
    first sub-layer there is nothing to choose from, and no w. Logits and softmax are in single precision at least.
    Source: Kimi Team 2026, arXiv:2603.15031.

    Args:
        dim: the feature dimension.
        opens: whether y opens a value; else it is added to the last one.
        eps: in the RMSNorm.
    """

    skip = BranchAlone

    def __init__(self, dim: int, opens: bool, eps: float = 1e-6):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))
        self.gain = nn.Parameter(torch.ones(dim))
        self.opens = opens
        self.eps = eps

    @classmethod
    def build(cls, place: Place, size: int = 1) -> Mixing:
        if not place.number:
            return Remembering()  # the embedding alone: a softmax over one value
        return cls(place.dim, (place.number - 1) % size == 0)

    def forward(self, y: Tensor, memory: List[Tensor]) -> Tensor:
        if self.opens:
            memory.append(y)
        else:
            memory[-1] = memory[-1] + y
        logits = torch.stack([self.logits(v) for v in memory])
        return weighted_sum(memory, logits.softmax(0).unsqueeze(-1))

    def logits(self, v: Tensor) -> Tensor:
        """(…) of a value (…, dim)."""
        if v.dtype == torch.float16 or v.dtype == torch.bfloat16:
            v = v.float()
        # a product of matrices would be in half precision under autocast
        products = v * self.query.to(v.dtype) * self.gain.to(v.dtype)
        return products.sum(-1) * (v.square().mean(-1) + self.eps).rsqrt()
