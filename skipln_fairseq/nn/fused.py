"""Connections whose leave-step is one kernel (:mod:`.kernels.leave`); everything else about them is as it was."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from .kernels.leave import leave
from .norm import LayerNorm
from .placement import Connection, Post, Pre, connection_class

__all__ = ["fuse"]


def _plain(modules: Sequence[nn.Module], drop: float) -> bool:
    """Whether nobody watches the steps between, and something of F(x) is left.

    Dropout that is retained in inference is torch's own, so that a seed gives what it gives in fairseq.
    """
    watched = (
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in modules
    )
    training = modules[0].training
    return (drop < 1 if training else drop == 0) and not any(watched)


class FusedPost(Post):
    """Post-LN in one kernel: dropout, the skip and every norm of the recursion."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        if not torch.jit.is_scripting():
            scale, norms = self.skip.chain()
            if _plain([self, self.skip, *norms], drop):
                return leave(f_x, stream, [*norms, self], scale, drop)
        return self.join(nn.functional.dropout(f_x, drop), stream, padding_mask)


class FusedPre(Pre):
    """Pre-LN: dropout and the skip in one kernel; the norm stands before F, far from them."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        if not torch.jit.is_scripting():
            scale, _ = self.skip.chain()
            if _plain([self, self.skip], drop):
                return leave(f_x, stream, (), scale, drop)
        return self.join(nn.functional.dropout(f_x, drop), stream, padding_mask)


FUSED: dict[type[Connection], type[Connection]] = {Post: FusedPost, Pre: FusedPre}


def fuse(connection: nn.Module) -> None:
    """Make a connection a fused one if its placement, its norms and its skip rule have such a form."""
    placement, norm = type(connection).__bases__
    chain = connection.skip.chain()
    if placement not in FUSED or norm is not LayerNorm or chain is None:
        return
    if placement is Post or not chain.norms:  # Pre-LN's kernel knows no norm
        connection.__class__ = connection_class(FUSED[placement], norm)
