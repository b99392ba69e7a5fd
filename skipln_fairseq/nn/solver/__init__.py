"""Encoder blocks that are applied more than once. ``SOLVERS`` is the registry behind ``--encoder-solver``."""

from ..variant import import_variants
from .base import SOLVERS, Solver

__all__ = ["SOLVERS", "Solver"]

import_variants(__path__, __name__)
