"""Attention other than softmax's, in pure torch."""

from .favor import Favor, FavorConfig
from .features import KERNELS
from .linear import LinearAttention

__all__ = ["KERNELS", "Favor", "FavorConfig", "LinearAttention"]
