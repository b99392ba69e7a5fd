"""The types of tensors that the kernels in C take."""

import torch

__all__ = ["TYPES"]

TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""Their numbers in C, as ``bfloat16.h`` has them."""
