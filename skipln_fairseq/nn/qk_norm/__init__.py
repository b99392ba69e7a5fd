"""Norms of attention's queries, keys and values. ``QK_NORMS`` is the registry behind ``--qk-norm``."""

from ..variant import import_variants
from .base import QK_NORMS, QKNorm

__all__ = ["QK_NORMS", "QKNorm"]

import_variants(__path__, __name__)
