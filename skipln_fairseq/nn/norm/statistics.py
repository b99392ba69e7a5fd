"""What norms over the tokens of a batch have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

__all__ = ["SingleStatistics", "real_tokens", "standing_in", "summands"]


def summands(
    v: Tensor, padding_mask: Optional[Tensor], centre: Optional[Tensor] = None, counts: bool = True
) -> Tuple[Tensor, Tensor]:
    """What sums over the positions that are not padding are made of, so that no host waits to know how many these are.

    Args:
        v: (…, dim).
        padding_mask: (…), true at padding, or None.
        centre: (dim,), taken away from each.
        counts: if not, all is padding.

    Returns:
        v, (tokens, dim), in single precision at least and zero at padding; how many are not padding
    """
    rows = v.reshape(-1, v.size(-1)).to(torch.promote_types(v.dtype, torch.float32))
    if centre is not None:
        rows = rows - centre
    if not counts:
        # still in the graph: each worker's backward sums over all workers
        return rows.masked_fill(torch.ones_like(rows, dtype=torch.bool), 0.0), rows.new_zeros(())
    if padding_mask is None:
        return rows, rows.new_full((), rows.size(0))
    padding = padding_mask.reshape(-1)
    return rows.masked_fill(padding[:, None], 0.0), padding.logical_not().sum().to(rows.dtype)


def real_tokens(v: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """The positions that are not padding, (tokens, dim), in single precision at least. A host waits for how many."""
    real = v.reshape(-1, v.size(-1)) if padding_mask is None else v[~padding_mask]
    return real.to(torch.promote_types(v.dtype, torch.float32))


class SingleStatistics(nn.Module):
    """A module whose own buffers stay in single precision when the model is made half: squares overflow there."""

    counts = True
    """Whether what passes is part of the statistics, see :func:`standing_in`."""

    def _apply(self, fn, recurse=True):
        before = {
            name: buffer for name, buffer in self.named_buffers(recurse=False) if buffer.is_floating_point()
        }
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = getattr(self, name)
            if after.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, buffer.to(after.device))
        return self


@contextmanager
def standing_in(model: nn.Module) -> Iterator[None]:
    """Have what passes through ``model`` in here be no part of any statistics, on other workers neither.

    Of data-parallel workers, those that have no batch left repeat an old one, whose gradient the trainer ignores. The
    forward has to be in here, and is what the backward goes by.
    """
    norms = [module for module in model.modules() if isinstance(module, SingleStatistics)]
    for norm in norms:
        norm.counts = False
    try:
        yield
    finally:
        for norm in norms:
            norm.counts = True
