"""What the decoder's blocks attend to. ``SOURCES`` is the registry behind ``--cross-attention-source``."""

from ..variant import import_variants
from .base import SOURCES, Source

__all__ = ["SOURCES", "Source"]

import_variants(__path__, __name__)
