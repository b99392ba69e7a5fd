"""One checkpoint from several: ``python -m skipln_fairseq.average``."""

from .mean import average

__all__ = ["average"]
