"""First weights of a whole model. ``STARTS`` is the registry behind ``--initialisation``."""

from ..variant import import_variants
from .base import STARTS, Start

__all__ = ["STARTS", "Start"]

import_variants(__path__, __name__)
