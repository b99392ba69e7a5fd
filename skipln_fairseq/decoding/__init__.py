"""What fairseq's decoding commands search with, and their flags. Importing it registers both with fairseq."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from . import flags
from .generator import QuickGenerator

__all__ = ["QuickGenerator", "flags"]
