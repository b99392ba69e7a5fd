"""DeepNorm: xSkip whose scale, and the first weights of F, follow from the depth."""

from torch import nn

from ..variant import Paper
from .base import SKIPS, TOKEN, Branch, Site
from .expanded import ExpandedSkip

__all__ = ["DeepNormSkip", "deepnorm_constants"]


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


@SKIPS.declare(
    "deepnorm",
    title="DeepNorm",
    equation="N(αx + F(x)), α and F's first weights from the depth",
    paper=Paper("Wang et al. 2022a", "2203.00555"),
    goes_with=((TOKEN, ("post",)),),
    from_depth=True,
)
class DeepNormSkip(ExpandedSkip):
    """``αx + F(x)``, with α and the initialisation of :func:`deepnorm_constants`.

    F's first weights are Xavier normal with gain β, those of queries and keys with gain 1. Such they are in the
    paper; its authors' torchscale takes torch's own weights and biases, times β.
    """

    @classmethod
    def build(cls, site: Site) -> "DeepNormSkip":
        return cls(deepnorm_constants(*site.depth)[site.side][0])

    @classmethod
    def initialise(cls, branch: Branch, site: Site) -> None:
        beta = deepnorm_constants(*site.depth)[site.side][1]
        for linear in branch.scores:
            nn.init.xavier_normal_(linear.weight, gain=1.0)
        for linear in branch.others:
            nn.init.xavier_normal_(linear.weight, gain=beta)
