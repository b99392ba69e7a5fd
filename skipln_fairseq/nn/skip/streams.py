"""Several streams side by side: what Hyper-Connections and their kin have in common."""

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor, nn

from ..precision import single
from ..variant import Option
from .base import TOKEN, Skip

__all__ = ["AROUND_F", "STREAMS", "Streams", "SumEnd", "mixed", "split"]

# F with the norms that belong to it is a black box to the streams; a norm after the sum would have to know them.
AROUND_F = ((TOKEN, ("pre", "res-post", "sandwich", "sub")),)

STREAMS = Option(
    "streams", "skip_streams", "number of streams (default: 4)", "n", int, least=1, default=4, drawn=(1, 4)
)


def split(stream: Tensor, streams: int, width: int) -> Tensor:
    """The streams (…, streams, width) of what walks; x alone (…, width) stands for that many copies of it."""
    if stream.size(-1) == streams * width:
        return stream.unflatten(-1, [streams, width])
    shape = list(stream.shape)
    shape.insert(-1, streams)
    return stream.unsqueeze(-2).expand(shape)


def mixed(weights: Tensor, streams: Tensor) -> Tensor:
    """``Wᵀ H``: (…, k, width) of W (…, n, k) and H (…, n, width), in single precision at least.

    Not by ``matmul``, which copies H to transpose it where one W (n, k) is for all: 3 to 5 times the time.
    """
    return torch.einsum("...nk,...nw->...kw", weights, single(streams))


class Streams(Skip):
    """``h = Aᵀ H`` is read, ``keep(H) + b F(h)`` written; H (…, n, width) are the streams.

    The stream that walks is H with its rows side by side, at first, and wherever x alone comes, n copies of x: the
    first layer may be gone, or dropped in this step. :meth:`forward` makes the whole of it, so there is no norm after
    the sum. A and b are functions of H: :meth:`read_weights` and :meth:`write_weights`.

    Args:
        streams: n.
        width: of one stream.
        reads: how many rows Aᵀ H has; F's input is these side by side.
    """

    is_wide = True
    merges = True

    def __init__(self, streams: int, width: int, reads: int = 1):
        super().__init__()
        self.streams = streams
        self.width = width
        self.reads = reads

    @classmethod
    def build_end(
        cls,
        dim: int,
        make_norm: Callable[..., nn.Module],
        form: str,
        *args: Any,
        **options: Any,
    ) -> Optional[nn.Module]:
        return SumEnd(options.get("streams", 4), dim, make_norm())

    def read_weights(self, streams: Tensor) -> Tensor:
        """A, (…, n, reads) or (n, reads), in single precision at least."""
        raise NotImplementedError

    def write_weights(self, streams: Tensor) -> Tensor:
        """b, (…, n) or (n), in single precision at least."""
        raise NotImplementedError

    def keep(self, streams: Tensor) -> Tensor:
        """What stays of H (…, n, width), in single precision at least."""
        raise NotImplementedError

    def read(self, stream: Tensor) -> Tensor:
        streams = split(stream, self.streams, self.width)
        return mixed(self.read_weights(streams), streams).flatten(-2).to(stream.dtype)

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        streams = split(stream, self.streams, self.width)
        rows = single(f_x).unflatten(-1, [self.reads, self.width])
        written = self.write_weights(streams).unsqueeze(-1) * rows
        return (self.keep(streams) + written).flatten(-2).to(stream.dtype)

    # The sum is no function of x: where the probe asks for a and b of ``a x + b F(x)``, there are none.
    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> None:
        return None


class SumEnd(nn.Module):
    """The end of a stack: ``N(Σ_i H_i)``.

    Args:
        streams: how many.
        dim: of one.
        norm: N.
    """

    def __init__(self, streams: int, dim: int, norm: nn.Module):
        super().__init__()
        self.streams = streams
        self.dim = dim
        self.norm = norm

    def forward(self, stream: Tensor) -> Tensor:
        total = single(split(stream, self.streams, self.dim)).sum(-2)
        return self.norm(total.to(stream.dtype))
