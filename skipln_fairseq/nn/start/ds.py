"""DS-Init: smaller weights in deeper layers."""

import math

from ..skip.base import Branch, Site
from ..variant import Option, Paper
from .base import STARTS, Start, uniform_

__all__ = ["DepthScaledStart"]


@STARTS.declare(
    "ds",
    title="DS-Init",
    equation="W ~ U(−γα/bᵖ, γα/bᵖ), γ = √(6/(d_in + d_out)), b the layer from 1, p = 1/2",
    paper=Paper("Zhang et al. 2019", "1908.11365"),
    options=(
        Option("alpha", "ds_init_alpha", "α (default: 1)", "α", above=0, default=1.0),
        Option(
            "power",
            "ds_init_power",
            "p (default: 0.5), as in the paper; 0.25 is what its authors' code has",
            "p",
            least=0,
            default=0.5,
            drawn=(0, 1),
        ),
    ),
)
class DepthScaledStart(Start):
    """Each weight matrix of layer b, counted from 1 on its side, from ``U(−γα/b^p, γα/b^p)``.

    ``γ = √(6/(d_in + d_out))`` is Xavier's bound, for queries, keys and values too. The paper has p = 1/2. Its authors'
    code hands ``b^(−1/2)`` to an initialiser that takes it for a *variance*, so that its bound goes with p = 1/4.
    Biases and embeddings stay.

    Source: Zhang, Titov, Sennrich 2019, arXiv:1908.11365.

    Args:
        alpha: α.
        power: p.
    """

    def __init__(self, alpha: float = 1.0, power: float = 0.5):
        self.alpha = alpha
        self.power = power

    def branch(self, branch: Branch, site: Site) -> None:
        for linear in (*branch.scores, *branch.others):
            gamma = math.sqrt(6 / (linear.in_features + linear.out_features))
            uniform_(linear, gamma * self.alpha / (site.layer + 1) ** self.power)
