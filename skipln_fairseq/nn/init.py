"""Initialisations that a skip rule or a placement asks for."""

import math
from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["b2t_", "deepnorm_", "deepnorm_constants", "subln_", "subln_gains"]


def deepnorm_constants(encoder_layers: int, decoder_layers: int) -> dict[str, tuple[float, float]]:
    """DeepNorm's α (factor of x) and β (gain of the initial F) for each side.

    With N encoder and M decoder layers::

        both          encoder α = 0.81 (N⁴M)^(1/16)   β = 0.87 (N⁴M)^(−1/16)
                      decoder α = (3M)^(1/4)          β = (12M)^(−1/4)
        one side only         α = (2N)^(1/4)          β = (8N)^(−1/4)

    Args:
        encoder_layers: N, 0 for a model without encoder.
        decoder_layers: M, 0 for a model without decoder.

    Returns:
        ``{"encoder": (α, β), "decoder": (α, β)}``, with the sides that exist.

    Source: Wang, Ma, Dong, Huang, Zhang, Wei 2022, arXiv:2203.00555, table in its figure 2.
    """
    n, m = encoder_layers, decoder_layers
    if n and m:
        depth = (n**4 * m) ** (1 / 16)
        return {"encoder": (0.81 * depth, 0.87 / depth), "decoder": ((3 * m) ** 0.25, (12 * m) ** -0.25)}
    sides = {"encoder": n, "decoder": m}
    return {side: ((2 * k) ** 0.25, (8 * k) ** -0.25) for side, k in sides.items() if k}


def deepnorm_(query_key: list[nn.Linear], other: list[nn.Linear], beta: float) -> None:
    """DeepNorm's initialisation of one layer: Xavier normal with gain β, for queries and keys with gain 1.

    Args:
        query_key: the projections to queries and keys.
        other: the projections to values and of attention's output, and the two of the feed-forward.
        beta: β of :func:`deepnorm_constants`.
    """
    for linear in query_key:
        nn.init.xavier_normal_(linear.weight, gain=1.0)
    for linear in other:
        nn.init.xavier_normal_(linear.weight, gain=beta)


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


@torch.no_grad()
def subln_(linears: Iterable[nn.Linear], gain: float) -> None:
    """Sub-LN's initialisation: weights and biases as they were drawn, times γ.

    Args:
        linears: the projections to values and of attention's output, and the two of the feed-forward. The authors'
            code leaves those of cross-attention as they are.
        gain: γ of :func:`subln_gains`.
    """
    for linear in linears:
        for parameter in linear.parameters(recurse=False):
            parameter.mul_(gain)


@torch.no_grad()
def b2t_(linears: Iterable[nn.Linear], gain: float) -> None:
    """B2T's initialisation: all weight matrices of a layer as they were drawn, times a gain.

    Args:
        linears: all of a layer.
        gain: ``layers^(−1/2)``, the layers being those of its side.

    Source: Takase et al. 2022, arXiv:2206.00330, the authors' code.
    """
    for linear in linears:
        linear.weight.mul_(gain)
