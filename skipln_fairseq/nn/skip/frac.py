"""Frac-Connections, static: Hyper-Connections on parts of x."""

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import nn

from ..variant import Option, Paper
from .base import SKIPS, Site
from .hyper import HyperSkip
from .streams import AROUND_F

__all__ = ["FRACTIONS", "FracSkip"]

FRACTIONS = Option(
    "fractions",
    "skip_fractions",
    "number of parts that x is cut into (default: 4)",
    "m",
    int,
    least=1,
    default=4,
    drawn=(1, 2),
)


@SKIPS.declare(
    "frac",
    title="Frac-Connections",
    equation="h = Yᵀ H, H ← Aᵀ H + b ⊙ F(h); H the m parts of x, at first Pre-LN",
    paper=Paper("Zhu et al. 2025", "2503.14125"),
    options=(FRACTIONS,),
    goes_with=AROUND_F,
)
class FracSkip(HyperSkip):
    """``h = Yᵀ H``, ``H ← Aᵀ H + b ⊙ F(h)``, with learned Y (m, m), A (m, m) and b (m).

    H (m, dim/m) are m parts of x, not copies of it, so what walks is as wide as x, and a stack ends as with any other
    rule. F reads the m rows of Yᵀ H side by side, and the m parts of what it makes go one to each row. Y and A start as
    the identity, b as ones: Pre-LN. ``alpha`` holds Y and A side by side, ``beta`` b.

    The authors exempt Y, A and b from weight decay; fairseq's optimisers decay all parameters.

    Source: Zhu, Huang, Zhou, Huang, Zeng, Wu, Min, Zhou 2025, arXiv:2503.14125, equations 6 to 8 and 15, algorithm 1.
    """

    is_wide = False
    merges = False

    @classmethod
    def build(cls, site: Site, fractions: int = 4) -> "FracSkip":
        return cls(torch.eye(fractions), site.dim // fractions)

    @classmethod
    def build_end(
        cls, dim: int, make_norm: Callable[..., nn.Module], form: str, *args: Any, **options: Any
    ) -> Optional[nn.Module]:
        return None  # what walks is x

    @classmethod
    def refusal(cls, dim: int, fractions: int = 4) -> Optional[str]:
        return f"{fractions} does not divide the width of {dim}" if dim % fractions else None
