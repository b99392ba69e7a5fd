"""Where the norms of a connection stand. ``PLACEMENTS`` is the registry behind ``--norm-placement``.

A placement is mixed into the class of the norm that it applies (see :mod:`.connection`), so ``self(v, mask)``
is that norm.
"""

from collections.abc import Callable
from functools import cache
from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "PLACEMENTS",
    "Connection",
    "NormedLinear",
    "Post",
    "Pre",
    "ResPost",
    "Sandwich",
    "Sub",
    "connection_class",
]

MakeNorm = Callable[[int], nn.Module]


class Connection:
    """What a layer sees: ``enter(stream) -> F's input`` and ``leave(f_x, stream) -> stream``.

    f_x and F's input are (…, dim); the stream too, unless the skip rule makes it wider; the padding mask (…)
    is true at padding, or None. A placement is ``enter`` and ``join``, which is ``leave`` after the dropout.
    """

    ends_with_norm = True
    """Whether a stack of such connections needs a norm at its end, its last output being a plain sum."""

    def add_norms(self, make_norm: Callable[[], nn.Module]) -> None:
        """Add the norms that the placement needs besides the one that it is."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        """``drop`` is the probability with which an element of F(x) is dropped."""
        return self.join(F.dropout(f_x, drop), stream, padding_mask)

    @staticmethod
    def connect_projection(linear: nn.Linear, make_norm: MakeNorm) -> nn.Linear:
        """F's last projection as the placement wants it."""
        return linear


class Post(Connection):
    """``y = N(skip(F(x), x))``: the norm stands after the sum (Vaswani et al. 2017, arXiv:1706.03762)."""

    ends_with_norm = False

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.read(stream)

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        y = self(self.skip(f_x, stream, padding_mask), padding_mask)
        return self.skip.write(y, f_x, stream)


class Pre(Connection):
    """``y = skip(F(N(x)), x)``: the norm stands before F (Xiong et al. 2020, arXiv:2002.04745)."""

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self(self.skip.read(stream), padding_mask)

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.write(self.skip(f_x, stream, padding_mask), f_x, stream)


class ResPost(Connection):
    """``y = skip(N(F(x)), x)``: the norm stands on the branch, after F (Liu et al. 2021, arXiv:2111.09883)."""

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.skip.read(stream)

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        f_x = self(f_x, padding_mask)
        return self.skip.write(self.skip(f_x, stream, padding_mask), f_x, stream)


class Sandwich(ResPost):
    """``y = skip(N(F(N₁(x))), x)``: norms on both sides of F (Ding et al. 2021, arXiv:2105.13290).

    N₁ is the child ``entry``; N, the last one, has the connection's own parameters.
    """

    def add_norms(self, make_norm: Callable[[], nn.Module]) -> None:
        self.entry = make_norm()

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return self.entry(self.skip.read(stream), padding_mask)


class NormedLinear(nn.Linear):
    """``linear(N(v))``: a projection with a norm before it, the child ``norm``."""

    def forward(self, v: Tensor) -> Tensor:
        return nn.functional.linear(self.norm(v), self.weight, self.bias)


class Sub(Pre):
    """Sub-LN: Pre with one norm more, before F's last projection (Wang et al. 2022, arXiv:2210.06423).

    That is attention's output projection and the feed-forward's second one, which becomes a
    :class:`NormedLinear`. The authors' code has no such norm in cross-attention, which is Pre there, and an
    initialisation of its own, :func:`skipln_fairseq.nn.init.subln_`.
    """

    @staticmethod
    def connect_projection(linear: nn.Linear, make_norm: MakeNorm) -> nn.Linear:
        # the module itself changes its class, so that what is attached to it (quantisation noise) stays
        linear.__class__ = NormedLinear
        linear.norm = make_norm(linear.in_features)
        return linear


@cache
def connection_class(placement: type[Connection], norm: type[nn.Module]) -> type[nn.Module]:
    """The class of a connection: a norm with a placement mixed in."""
    return type(f"{placement.__name__}{norm.__name__}", (placement, norm), {})


PLACEMENTS: dict[str, type[Connection]] = {
    "post": Post,
    "pre": Pre,
    "res-post": ResPost,
    "sandwich": Sandwich,
    "sub": Sub,
}
