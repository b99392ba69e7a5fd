"""Skip rules: how a sub-layer's output F(x) meets its input x. ``SKIPS`` is the registry behind ``--skip-type``."""

from ..variant import import_variants
from .base import SKIPS, Branch, Site, Skip

__all__ = ["SKIPS", "Branch", "Site", "Skip"]

import_variants(__path__, __name__)
