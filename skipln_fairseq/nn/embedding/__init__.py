"""What word vectors are made of. ``EMBEDDINGS`` is the registry behind ``--embedding-norm``."""

from ..variant import import_variants
from .base import EMBEDDINGS, WordVectors

__all__ = ["EMBEDDINGS", "WordVectors"]

import_variants(__path__, __name__)
