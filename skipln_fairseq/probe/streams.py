"""What became of several streams: whether they differ, whether one carries all, and whether they exchange anything."""

import torch
from torch import Tensor, nn

from ..nn.norm.statistics import real_tokens
from ..nn.skip.streams import Streams, split

__all__ = ["STREAM_QUANTITIES", "of_streams"]

STREAM_QUANTITIES = {
    "effective_streams": "mean over real tokens of tr(G)²/tr(G²), G = HHᵀ: 1 where all streams point one way or one "
    "carries all, n where they are orthogonal and equally long",
    "largest_stream": "share of the stream that carries most in ΣᵢΣ‖Hᵢ‖²",
    "stream_exchange": "‖what stays of H − H‖ / ‖H‖: 0 where the streams are mixed by the identity",
}
"""What is reported of the streams H (n, dim) after a sub-layer; empty where there are none."""


@torch.no_grad()
def of_streams(skip: nn.Module, before: Tensor, after: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """The quantities of one sub-layer.

    Args:
        skip: its skip rule.
        before: the stream that it takes, (…, n dim), or of the first one (…, dim).
        after: the stream that it makes, (…, n dim).
        mask: true at padding, or None.
    """
    if not isinstance(skip, Streams):
        return {}
    old = split(before, skip.streams, skip.width)
    kept = real_tokens((skip.keep(old) - old).flatten(-2), mask).double()
    rows = real_tokens(after, mask).double().unflatten(-1, [skip.streams, skip.width])
    gram = rows @ rows.transpose(-2, -1)
    energy = gram.diagonal(dim1=-2, dim2=-1)
    effective = energy.sum(-1).square() / gram.square().sum((-2, -1))
    shares = energy.sum(0) / energy.sum()
    return {
        "effective_streams": effective.mean(),
        "largest_stream": shares.max(),
        "stream_exchange": kept.norm() / real_tokens(old.flatten(-2), mask).double().norm(),
    }
