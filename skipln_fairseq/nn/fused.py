"""Connections whose leave-step is one kernel (:mod:`.kernels.leave`); everything else about them is as it was."""

from collections.abc import Sequence
from typing import Optional, TypeGuard

import torch
from torch import Tensor, nn

from .kernels.leave import leave
from .norm.layer import LayerNorm
from .placement import Connection, connection_class
from .placement.post import Post
from .placement.pre import Pre
from .plain import is_watched

__all__ = ["are_one_kernel", "fuse"]


def are_one_kernel(norms: Sequence[nn.Module]) -> TypeGuard[Sequence[LayerNorm]]:
    """Whether these are layer norms with gain and bias, all with one eps."""
    return all(
        isinstance(one, LayerNorm)
        and one.eps == norms[0].eps
        and one.weight is not None
        and one.bias is not None
        for one in norms
    )


def _plain(modules: Sequence[nn.Module], drop: float) -> bool:
    """Whether nobody watches or changes the steps between, and something of F(x) is left.

    Dropout that is retained in inference is torch's own, so that a seed gives what it gives in fairseq.
    """
    training = modules[0].training
    changed = (is_watched(one) or "forward" in one.__dict__ for one in modules)
    return (drop < 1 if training else drop == 0) and not any(changed)


class FusedPost(Post):
    """Post-LN in one kernel: dropout, the skip and every norm of the recursion."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        f_x = self.drop_sentences(f_x)  # before the dropout as good as after it
        if not torch.jit.is_scripting():
            chain = self.skip.chain()
            if chain is not None:
                norms: list[nn.Module] = [*chain.norms, self]
                if are_one_kernel(norms) and _plain([*norms, self.skip], drop):
                    return leave(f_x, stream, norms, chain.scale, drop)
        return self.join(nn.functional.dropout(f_x, drop), stream, padding_mask)


class FusedPre(Pre):
    """Pre-LN: dropout and the skip in one kernel; the norm stands before F, far from them."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        f_x = self.drop_sentences(f_x)  # before the dropout as good as after it
        if not torch.jit.is_scripting():
            chain = self.skip.chain()
            if chain is not None and not chain.norms and _plain([self, self.skip], drop):
                return leave(f_x, stream, (), chain.scale, drop)
        return self.join(nn.functional.dropout(f_x, drop), stream, padding_mask)


FUSED: dict[type[Connection], type[Connection]] = {Post: FusedPost, Pre: FusedPre}


def fuse(connection: Connection) -> None:
    """Make a connection a fused one if its placement, its norms and its skip rule have such a form."""
    placement, norm = type(connection).__bases__
    chain = connection.skip.chain()
    if placement not in FUSED or norm is not LayerNorm or chain is None:
        return
    if placement is Post or not chain.norms:  # Pre-LN's kernel knows no norm
        connection.__class__ = connection_class(FUSED[placement], norm)
