"""What is measured of a trained model. ``MEASURES`` is the registry behind a grid's ``measure``."""

from .cell import Cell
from .classification import Classification
from .translation import Translation

__all__ = ["MEASURES"]

MEASURES: dict[str, type[Cell]] = {"translation": Translation, "classification": Classification}
