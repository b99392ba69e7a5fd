"""Which numbers half precision is too coarse for."""

import torch
from torch import Tensor

__all__ = ["single"]


def single(v: Tensor) -> Tensor:
    """Half precision as single, for what needs its digits or its range: weights near 0 and 1, powers, sums of them."""
    if v.dtype == torch.float16 or v.dtype == torch.bfloat16:
        return v.float()
    return v
