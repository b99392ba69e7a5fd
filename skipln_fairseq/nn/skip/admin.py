"""Admin: a learned factor of x whose first value is measured on the model itself."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..variant import Paper
from .base import SKIPS, TOKEN, Coefficients, Link, Site, Skip

__all__ = ["AdminSkip"]


@SKIPS.declare(
    "admin",
    title="Admin",
    equation="N(ω ⊙ x + F(x)), ω measured in the first step, then learned",
    paper=Paper("Liu et al. 2020b", "2004.08249"),
    goes_with=((TOKEN, ("post",)),),
)
class AdminSkip(Skip):
    """``ω ⊙ x + F(x)``, under a norm after the sum, with one learned ω for each feature.

    In the first sub-layer of a stack ω starts at 1, in the one after i at ``√(Var(ω_i x_i) + Var F(x_i))``, both
    variances over all features of all real tokens of one batch: with normalised x that is
    ``ω_{i+1}² = 1 + Σ_{j≤i} Var F(x_j)``. This is the authors' published definition, save that padding and dropout
    are left out of the measurement.

    ω is the sum of the measured ``profile``, a buffer, and of a learned ``shift`` that starts at 0: so the
    optimiser's copies of the parameters never miss the measurement, which happens in training's first step
    (:func:`skipln_fairseq.models.admin.profile`), and checkpoints hold whether it has been done.

    Source: Liu, Liu, Gao, Chen, Han 2020, arXiv:2004.08249.
    """

    is_a_mean = False
    measures = True
    profile: Tensor
    profiled: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("profile", torch.ones(()))
        self.register_buffer("profiled", torch.zeros((), dtype=torch.bool))

    @classmethod
    def build(cls, site: Site) -> "AdminSkip":
        return cls(site.dim)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return (self.profile + self.shift) * stream + f_x

    def chain(self) -> list[Link]:
        return [Link(of_x=self.profile + self.shift)]

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Coefficients:
        return self.profile + self.shift, x.new_ones(())
