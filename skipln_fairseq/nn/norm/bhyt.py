"""BHyT: a tanh whose argument is bounded by the token's own size."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Option, Paper
from .base import NORMS, Norm

__all__ = ["BoundedTanh"]


@NORMS.declare(
    "bhyt",
    title="BHyT, exact",
    equation="w ⊙ tanh(λv/(κ√mean(v²))), λ learned",
    paper=Paper("Byun et al. 2026", "2601.09719"),
    kind="token",
    options=(
        Option("start", "bhyt_lambda", "first value of BHyT's λ (default: 2)", "λ", above=0, default=2.0),
        Option("kappa", "bhyt_kappa", "κ (default: 10)", "κ", above=0, default=10.0, drawn=(2, 10)),
    ),
)
class BoundedTanh(Norm, nn.Module):
    """``w ⊙ tanh(λ v / (κ √(mean(v²) + eps)))`` with one learned λ and a fixed κ.

    The exact form, which the authors' code names BHyT*: each site measures its own mean square. Their BHyT, which is
    faster, measures it once a layer and estimates it at the second site; it is not here. λ starts at 2, the default of
    their class; their scripts search it from 1 to 5, site by site.

    Source: Byun, Choi, Kim, Park, Song 2026, arXiv:2601.09719, and its authors' code.

    Args:
        dim: the feature dimension.
        start: the first value of λ.
        kappa: κ.
        eps: under the root.
    """

    def __init__(self, dim: int, start: float = 2.0, kappa: float = 10.0, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.gain = nn.Parameter(torch.tensor(start))
        self.kappa = kappa
        self.eps = eps

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        bounded = F.rms_norm(v, [v.size(-1)], None, self.eps)
        return self.weight * torch.tanh(self.gain / self.kappa * bounded)
