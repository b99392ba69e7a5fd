"""What a block reads of the outputs before it. ``MIXINGS`` is the registry behind ``--depth-mixing``."""

from ..variant import import_variants
from .base import MIXINGS, Mixing, Place

__all__ = ["MIXINGS", "Mixing", "Place"]

import_variants(__path__, __name__)
