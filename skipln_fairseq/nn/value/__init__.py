"""What attention of a block to itself sums. ``VALUES`` is the registry behind ``--value-residual``."""

from ..variant import import_variants
from .base import VALUES, ValueResidual, project_before

__all__ = ["VALUES", "ValueResidual", "project_before"]

import_variants(__path__, __name__)
