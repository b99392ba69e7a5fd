"""Initialisation with a bound on what a layer can do to its input's length."""

import math

import torch
from torch import Tensor, nn

from ..skip.base import Branch, Site
from ..variant import Paper
from .base import STARTS, Start, uniform_

__all__ = ["LipschitzStart"]


@STARTS.declare(
    "lipschitz",
    title="Lipschitz initialisation",
    equation="W ~ U(±1/√d_in), biases 0, embeddings ~ U(±√(2/(V + d)))",
    paper=Paper("Xu et al. 2020", "1911.03179"),
)
class LipschitzStart(Start):
    """Weights from ``U(−1/√d_in, 1/√d_in)``, biases 0, embeddings from ``U(−√(2/(V + d)), √(2/(V + d)))``.

    V is the number of words, d the width.

    Source: Xu, Liu, van Genabith, Xiong, Zhang 2020, arXiv:1911.03179, as the authors' code has it.
    """

    def branch(self, branch: Branch, site: Site) -> None:
        for linear in (*branch.scores, *branch.others):
            uniform_(linear, linear.in_features**-0.5)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    @torch.no_grad()
    def embedding(self, weight: Tensor, padding: int, layers: int) -> None:
        bound = math.sqrt(2 / sum(weight.shape))
        nn.init.uniform_(weight, -bound, bound)
        weight[padding].zero_()
