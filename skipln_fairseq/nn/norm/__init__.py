"""Normalisations of the features. ``NORMS`` is the registry behind ``--skip-norm``."""

from ..variant import import_variants
from .base import NORMS, Norm, norms_of

__all__ = ["NORMS", "Norm", "norms_of"]

import_variants(__path__, __name__)
