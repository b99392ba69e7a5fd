"""Initialisations that a skip rule asks for."""

from torch import nn

__all__ = ["deepnorm_", "deepnorm_constants"]


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
    side, layers = ("encoder", n) if n else ("decoder", m)
    return {side: ((2 * layers) ** 0.25, (8 * layers) ** -0.25)}


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
