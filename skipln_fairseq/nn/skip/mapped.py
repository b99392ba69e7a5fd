"""Streams whose weights are maps of all streams together: what mHC and its form with an identity have in common."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import single
from ..variant import Option
from .base import Site
from .streams import Streams, mixed, split

__all__ = ["MAPPED", "GatedEnd", "MappedStreams", "Maps"]

# What the paper leaves open has no default. It gives n, α and the number of Sinkhorn's steps.
MAPPED = (
    Option(
        "start",
        "mhc_start",
        "first values of φ and b, which the paper leaves open: megatron, φ Xavier uniform and b = 0, as in "
        "Megatron-LM; factory, φ normal with deviation 0.02 and b = 0, as in hyper-connection-factory",
        "START",
        choices=("megatron", "factory"),
    ),
    Option(
        "readout",
        "mhc_end",
        "what makes one stream of them at the end, which the paper leaves open: sum, as in Hyper-Connections; sigmoid, "
        "a learned weighted sum, as in DeepSeek-V4's inference code",
        "END",
        choices=("sum", "sigmoid"),
    ),
)


class Maps(nn.Module):
    """``α_k (x̃ φ_kᵀ) + b_k`` for k = 0, 1, …, with ``x̃ = vec(H) / √(mean(vec(H)²) + 10⁻⁶)``.

    vec(H) are the streams side by side. A gain of that norm would be one with φ. Each α starts at 0.01, b at 0.

    Args:
        streams: n.
        width: of one.
        sizes: how many outputs each k has; all φ_k stand in ``phi`` (Σ sizes, n · width), all b_k in ``bias``.
        start: of φ, one of ``MAPPED``.
    """

    def __init__(self, streams: int, width: int, sizes: Sequence[int], start: str):
        super().__init__()
        self.bounds = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        self.phi = nn.Parameter(torch.empty(sum(sizes), streams * width))
        self.alpha = nn.Parameter(torch.full((len(sizes),), 0.01))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        {"megatron": nn.init.xavier_uniform_, "factory": lambda phi: nn.init.normal_(phi, std=0.02)}[start](
            self.phi
        )

    def forward(self, streams: Tensor, k: int) -> Tensor:
        """(…, sizes[k]) of H (…, n, width), in single precision at least."""
        first, last = self.bounds[k], self.bounds[k + 1]
        x = single(streams).flatten(-2)
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        projected = single(F.linear(x, single(self.phi[first:last])))
        return single(self.alpha)[k] * (projected * scale) + single(self.bias[first:last])


class MappedStreams(Streams):
    """``h = σ(map_0(H)) H`` is read and ``2σ(map_1(H)) F(h)`` written; the maps are :class:`Maps`.

    Args:
        streams: n.
        width: of one.
        sizes: of the maps after these two.
        start: of φ.
    """

    def __init__(self, streams: int, width: int, sizes: Sequence[int], start: str):
        super().__init__(streams, width)
        self.maps = Maps(streams, width, (streams, streams, *sizes), start)

    @classmethod
    def build(cls, site: Site, start: str, readout: str, streams: int = 4, **options: Any) -> "MappedStreams":
        return cls(streams, site.dim, start=start, **options)

    @classmethod
    def build_end(
        cls,
        dim: int,
        make_norm: Callable[..., nn.Module],
        form: str,
        start: str,
        readout: str,
        streams: int = 4,
        **options: Any,
    ) -> Optional[nn.Module]:
        if readout == "sigmoid":
            return GatedEnd(Maps(streams, dim, (streams,), start), streams, dim, make_norm())
        return super().build_end(dim, make_norm, form, streams=streams)

    def read_weights(self, streams: Tensor) -> Tensor:
        return self.maps(streams, 0).sigmoid().unsqueeze(-1)

    def write_weights(self, streams: Tensor) -> Tensor:
        return 2 * self.maps(streams, 1).sigmoid()


class GatedEnd(nn.Module):
    """The end of a stack: ``N(Σ_i w_i H_i)`` with ``w = σ(map(H))``.

    DeepSeek-V4's inference code adds 10⁻⁶ to w; here nothing is added.

    Args:
        maps: the map.
        streams: how many.
        dim: of one.
        norm: N.
    """

    def __init__(self, maps: Maps, streams: int, dim: int, norm: nn.Module):
        super().__init__()
        self.maps = maps
        self.streams = streams
        self.dim = dim
        self.norm = norm

    def forward(self, stream: Tensor) -> Tensor:
        streams = split(stream, self.streams, self.dim)
        total = mixed(self.maps(streams, 0).sigmoid().unsqueeze(-1), streams).squeeze(-2)
        return self.norm(total.to(stream.dtype))
