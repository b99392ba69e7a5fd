"""One checkpoint from several: ``python -m skipln_fairseq.average``."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from .mean import average

__all__ = ["average"]
