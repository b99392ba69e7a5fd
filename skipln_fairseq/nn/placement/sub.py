"""Sub-LN."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..skip.base import Branch, Site
from ..variant import Paper
from .base import PLACEMENTS, Connection, MakeNorm
from .pre import Pre

__all__ = ["NormedLinear", "Sub", "subln_gains"]


def subln_gains(encoder_layers: int, decoder_layers: int) -> dict[str, float]:
    """Sub-LN's γ (gain of the initial F) for each side.

    With N encoder and M decoder layers::

        both             encoder γ = √(ln 3M · ln 2N / 3)    decoder γ = √(ln 3M)
        one side only            γ = √(ln 2N)

    Args:
        encoder_layers: N, 0 for a model without encoder.
        decoder_layers: M, 0 for a model without decoder.

    Returns:
        ``{"encoder": γ, "decoder": γ}``, with the sides that exist.

    Source: Wang et al. 2022, arXiv:2210.06423, as its authors' code (torchscale) has it.
    """
    n, m = encoder_layers, decoder_layers
    if n and m:
        decoder = math.log(3 * m)
        return {"encoder": math.sqrt(decoder * math.log(2 * n) / 3), "decoder": math.sqrt(decoder)}
    sides = {"encoder": n, "decoder": m}
    return {side: math.sqrt(math.log(2 * k)) for side, k in sides.items() if k}


class NormedLinear(nn.Linear):
    """``linear(N(v))``: a projection with a norm before it, the child ``norm``."""

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and knows few types
        norm: nn.Module

    def forward(self, v: Tensor) -> Tensor:
        return nn.functional.linear(self.norm(v), self.weight, self.bias)


@PLACEMENTS.declare(
    "sub",
    title="Sub-LN",
    equation="x + F(N(x)), N once more before F's last projection but in cross-attention; "
    "F's first weights from the depth",
    paper=Paper("Wang et al. 2022b", "2210.06423"),
    has_forms=True,
)
class Sub(Pre):
    """Sub-LN: Pre with one norm more, before F's last projection (Wang et al. 2022, arXiv:2210.06423).

    That is attention's output projection and the feed-forward's second one, which becomes a
    :class:`NormedLinear`. In the authors' code (torchscale) cross-attention is Pre, without that norm, and in all other
    sub-layers the projections to values and of attention's output, and the feed-forward's two, start as they were
    drawn, times :func:`subln_gains`. In the form that this plugin had first every sub-layer has the norm, and starts
    as drawn.
    """

    @classmethod
    def at(cls, site: Site) -> type[Connection]:
        return Pre if (site.form, site.slot) == ("authors", "cross_attn") else cls

    @classmethod
    @torch.no_grad()
    def initialise(cls, branch: Branch, site: Site) -> None:
        if site.form == "authors":
            gain = subln_gains(*site.depth)[site.side]
            for linear in branch.others:
                for parameter in linear.parameters(recurse=False):
                    parameter.mul_(gain)

    @staticmethod
    def connect_projection(linear: nn.Linear, make_norm: MakeNorm) -> nn.Linear:
        # the module itself changes its class, so that what is attached to it (quantisation noise) stays
        linear.__class__ = NormedLinear
        assert isinstance(linear, NormedLinear)
        linear.norm = make_norm(linear.in_features)
        return linear
