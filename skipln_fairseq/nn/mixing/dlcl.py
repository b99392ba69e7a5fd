"""Dynamic linear combination of layers."""

from typing import List, Optional

import torch
from torch import Tensor, nn

from ..skip.base import ANYWHERE
from ..variant import Option, Paper
from .base import MIXINGS, Mixing, Passing, Place, weighted_sum

__all__ = ["DLCL"]


@MIXINGS.declare(
    "dlcl",
    title="DLCL",
    equation="xₗ₊₁ = Σₖ Wₗₖ N(yₖ), Post-LN N(Σₖ Wₗₖ yₖ), y₀ the embedding, at the end too; W from 1/(l + 1)",
    paper=Paper("Wang et al. 2019", "1906.01787"),
    options=(Option("norm_embedding", "dlcl_norm_embedding", "norm the embedding too", default=False),),
    goes_with=ANYWHERE,
)
class DLCL(Mixing):
    """A learned sum of all outputs so far, before each block and before the norm at the stack's end.

    y_0 is the embedding, y_k what block k writes, and W lower triangular, (blocks + 1)², one scalar each::

        blocks that write plain sums (Pre-LN)    x_{l+1} = Σ_{k≤l} W_lk N_k(y_k)
        blocks that write normed ones (Post-LN)  x_{l+1} = N_l(Σ_{k≤l} W_lk y_k)

    W starts as the mean, W_lk = 1/(l + 1), so it is *not* Pre-LN or Post-LN at first. In the authors' code
    (``simple_dlcl_transformer``, and ``dlcl_transformer`` unless told otherwise) the embedding has no norm, N_0 is left
    out, while the paper's sums show N for each k; ``norm_embedding`` is the paper's form. The option that their code
    has for that is the same with Pre-LN; with Post-LN it keeps N_0(y_0) in the place of y_0, and norms that once more.
    Their further options (a window, one weight for each feature, softmax over W, dropout) are not here.
    Source: Wang, Li, Xiao, Zhu, Li, Wong, Chao, ACL 2019, arXiv:1906.01787.

    Args:
        outputs: l + 1, how many are summed.
        norm: N_l, or None.
        before: whether it stands before the sum.
    """

    needs_one_kind = True

    def __init__(self, outputs: int, norm: Optional[nn.Module], before: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.full((outputs,), 1.0 / outputs))
        self.norm = norm
        self.before = before

    @classmethod
    def build(cls, place: Place, norm_embedding: bool = False) -> Mixing:
        if place.index:
            return Passing()
        norm = place.make_norm(place.dim) if place.layer or norm_embedding else None
        return cls(place.layer + 1, norm, not place.normed)

    def forward(self, y: Tensor, memory: List[Tensor]) -> Tensor:
        if self.norm is not None and self.before:
            y = self.norm(y)
        memory.append(y)
        x = weighted_sum(memory, self.weight)
        if self.norm is not None and not self.before:
            x = self.norm(x)
        return x
