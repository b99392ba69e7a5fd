"""FixNorm: word vectors of length 1."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Paper
from .base import EMBEDDINGS, WordVectors

__all__ = ["FixNorm", "UnitEmbedding"]


def lengths(rows: Tensor) -> Tensor:
    """The Euclidean length of each row, (…, dim) → (…); 1 for a row of zeros, which stays what it is."""
    found = torch.linalg.vector_norm(rows, dim=-1)
    return found.masked_fill(found == 0, 1.0)


class UnitEmbedding(nn.Embedding):
    """An embedding whose rows are divided by their lengths."""

    def forward(self, input: Tensor) -> Tensor:
        rows = self.rows(input)
        return rows / lengths(rows).unsqueeze(-1)

    def rows(self, input: Tensor) -> Tensor:
        """The rows as they are."""
        return F.embedding(input, self.weight, self.padding_idx)


class UnitOutput(nn.Linear):
    """A map without bias whose rows are divided by their lengths.

    In training the table has fewer numbers than the products of a batch, and in a step of decoding many more: what has
    fewer is divided.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return F.linear(input, self.weight / lengths(self.weight).unsqueeze(-1))
        return F.linear(input, self.weight) / lengths(self.weight)


@EMBEDDINGS.declare(
    "fixnorm",
    title="FixNorm",
    equation="√d ŵ is read, ŵ·x is the logit, ŵ = w/‖w‖; w from U(±0.01)",
    paper=Paper("Nguyen & Salazar 2019", "1910.05895"),
)
class FixNorm(WordVectors):
    """``ŵ = w/‖w‖`` for each word, in every table: of both inputs and of the output, tied or not.

    √d is fairseq's factor of embeddings. All numbers of the tables are drawn from U(−0.01, 0.01). The authors mean it
    with tied tables, Pre-LN and ScaleNorm, which gives the last x a learned length: then a logit is that length times
    a cosine. Their output has a bias for each word, fairseq's has none. A row of zeros, which fairseq has for padding,
    stays one.

    Source: Nguyen, Salazar 2019, arXiv:1910.05895, and the authors' code.
    """

    needs_rows = True

    @torch.no_grad()
    def first(self, weight: Tensor, padding: Optional[int]) -> None:
        nn.init.uniform_(weight, -0.01, 0.01)
        if padding is not None:
            weight[padding].zero_()

    def apply(self, table: nn.Embedding | nn.Linear) -> None:
        if isinstance(table, nn.Linear) and table.bias is not None:
            raise ValueError("fixnorm is of an output without a bias")
        if isinstance(table, nn.Embedding) and (
            table.max_norm is not None or table.scale_grad_by_freq or table.sparse
        ):
            raise ValueError("fixnorm is of an embedding without max_norm, scale_grad_by_freq and sparse")
        table.__class__ = UnitEmbedding if isinstance(table, nn.Embedding) else UnitOutput
