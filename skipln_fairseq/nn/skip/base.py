"""What every skip rule is, and what it may ask for when it is built."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from torch import Tensor, nn

__all__ = ["Chain", "Site", "Skip", "SkipOptions"]


class Chain(NamedTuple):
    """``y_0 = F(x); y_k = N_k(λ x + y_{k−1})``; the sum is ``λ x + y_{K−1}``.

    Attributes:
        scale: λ.
        norms: N_1 … N_{K−1}.
    """

    scale: float
    norms: Sequence[nn.Module]


class Skip(nn.Module):
    """A skip rule.

    What walks from sub-layer to sub-layer is a *stream*: for most rules x itself, (…, dim); a rule that
    remembers more makes it wider, in the last dimension, and a stream as narrow as x is always understood,
    so that any layer can be the first.

    ``forward(f_x, stream, padding_mask) -> sum``: what the sub-layer's last norm (if it stands after the sum)
    takes; f_x and the sum are (…, dim), the mask (…) is true at padding, or None.
    """

    def read(self, stream: Tensor) -> Tensor:
        """The sub-layer's input x, (…, dim)."""
        return stream

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        """The stream after the sub-layer, whose output is y."""
        return y

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        raise NotImplementedError

    def chain(self) -> Optional[Chain]:
        """The rule as a chain of norms, if it is nothing else: what a kernel can compute in one piece."""
        return None


@dataclass(frozen=True)
class SkipOptions:
    """The numbers a skip rule may need. Each rule reads its own and no other.

    Attributes:
        scale: λ of expanded, its first value in learned, α of deepnorm, the first s of layerscale.
        order: K of the recursive skip, at least 1.
        vector: whether the learned λ is one for each feature.
        shared: whether the sub-layers of a layer have one α of rezero, and not one each.
        end_eps: eps of the norm at the end of dual, where it is not the norm's own.
    """

    scale: float = 1.0
    order: int = 1
    vector: bool = False
    shared: bool = False
    end_eps: Optional[float] = None


@dataclass(frozen=True)
class Site:
    """Where a skip rule is built.

    Attributes:
        dim: the feature dimension.
        make_norm: makes a further norm of the connection's kind.
        position: of the sub-layer in its layer: first, middle or last.
        first: the skip rule of the layer's first sub-layer, None while that is built.
    """

    dim: int
    make_norm: Callable[[], nn.Module]
    position: str = "first"
    first: Optional[nn.Module] = None
