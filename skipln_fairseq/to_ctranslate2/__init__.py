"""Export to CTranslate2: ``python -m skipln_fairseq.to_ctranslate2``."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from .specification import check, specification

__all__ = ["check", "specification"]
