"""T-Fixup: weights so small that neither norms nor warm-up are needed."""

import math

import torch
from torch import Tensor, nn

from ..skip.base import Branch, Site
from ..variant import Paper
from .base import STARTS, Start

__all__ = ["TFixupStart"]


@STARTS.declare(
    "t-fixup",
    title="T-Fixup",
    equation="v, out, fc1, fc2 times 0.67 N^(−¼) in the encoder, (9M)^(−¼) in the decoder; embeddings times (9N)^(−¼)",
    paper=Paper("Huang et al. 2020", url="https://proceedings.mlr.press/v119/huang20f.html"),
    example="--skip-type plain --skip-norm none",
)
class TFixupStart(Start):
    """Weights that are scaled by the depth, in a model without norms.

    Xavier uniform weights, those of values and of attention's output and the feed-forward's two times
    ``0.67 N^(−1/4)`` in an encoder of N layers and ``(9M)^(−1/4)`` in a decoder of M, in cross-attention too;
    embeddings N(0, d^(−1/2)), times ``(9 N)^(−1/4)`` with the layers of the side that reads them, the encoder's where
    both do. Queries and keys keep fairseq's gain of 1/√2, as in the authors' code; values lose it. The feed-forward's
    biases start at 0, as there.

    Source: Huang, Perez, Ba, Volkovs: "Improving Transformer Optimization Through Better Initialization", ICML 2020,
    and its authors' code.
    """

    needs_no_norm = True

    @torch.no_grad()
    def branch(self, branch: Branch, site: Site) -> None:
        encoder_layers, decoder_layers = site.depth
        gain = {"encoder": 0.67 * encoder_layers**-0.25, "decoder": (9 * decoder_layers) ** -0.25}[site.side]
        for linear in branch.others:
            nn.init.xavier_uniform_(linear.weight, gain)
            if site.slot == "ffn" and linear.bias is not None:
                nn.init.zeros_(linear.bias)

    @torch.no_grad()
    def embedding(self, weight: Tensor, padding: int, layers: int) -> None:
        nn.init.normal_(weight, std=weight.size(1) ** -0.5 * math.pow(9 * layers, -0.25))
        weight[padding].zero_()
