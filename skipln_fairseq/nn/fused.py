"""Connections whose leave-step is one kernel (:mod:`.kernels.leave`); everything else about them is as it was."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from .kernels.chain import Link, resolved
from .kernels.leave import leave
from .placement import Connection, connection_class
from .plain import changes_forward, is_watched

__all__ = ["Fused", "fuse"]


def _plain(modules: Sequence[nn.Module], drop: float) -> bool:
    """Whether nobody watches or changes the steps between, and something of F(x) is left.

    Dropout that is retained in inference is torch's own, so that a seed gives what it gives in fairseq.
    """
    training = modules[0].training
    changed = (is_watched(one) or changes_forward(one) for one in modules)
    return (drop < 1 if training else drop == 0) and not any(changed)


class Fused(Connection):
    """Mixed into a placement: dropout, the skip and every norm between F(x) and y in one kernel, where that can be."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        if not torch.jit.is_scripting():
            links = self.one_piece(drop)
            if links is not None:
                # sentences are dropped before the dropout as good as after it
                return leave(self.drop_sentences(f_x), stream, links, drop)
        return self.leave_in_steps(f_x, stream, padding_mask, drop)

    def one_piece(self, drop: float) -> Optional[list[Link]]:
        """What the kernel computes now; None: the steps are to be taken one by one."""
        links = self.chain()
        if links is None:
            return None
        norms = [link.norm for link in links if isinstance(link.norm, nn.Module)]
        return resolved(links) if _plain([self, self.skip, *norms], drop) else None


def fuse(connection: Connection) -> None:
    """Make a connection a fused one if its placement, its norms and its skip rule have such a form."""
    links = None if isinstance(connection, Fused) else connection.chain()
    if links is not None and resolved(links) is not None:
        connection.__class__ = connection_class(Fused, *type(connection).__bases__)
