"""What every initialisation is. ``STARTS`` is their registry."""

import torch
from torch import Tensor, nn

from ..skip.base import Branch, Site
from ..variant import Registry, Variant

__all__ = ["STARTS", "Start", "uniform_"]

STARTS: Registry["Start"] = Registry("start", "First weights")


class Start(Variant):
    """How the weights of a fresh model, drawn as fairseq does, are changed before it is trained.

    A skip rule or a placement may have first weights of its own (``initialise``), which are part of its method; an
    initialisation here is a choice beside them, and is not combined with them.
    """

    needs_no_norm = False
    """Whether it means something without norms only."""

    def branch(self, branch: Branch, site: Site) -> None:
        """The linear maps of one sub-layer."""

    def embedding(self, weight: Tensor, padding: int, layers: int) -> None:
        """An input embedding.

        Args:
            weight: (words, dim).
            padding: the row that stays zero.
            layers: of the side that reads it; where both do, the encoder's.
        """


@torch.no_grad()
def uniform_(linear: nn.Linear, bound: float) -> None:
    """Weights from U(−bound, bound)."""
    nn.init.uniform_(linear.weight, -bound, bound)
