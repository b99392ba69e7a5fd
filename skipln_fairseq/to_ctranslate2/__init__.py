"""Export to CTranslate2: ``python -m skipln_fairseq.to_ctranslate2``."""

from .specification import check, specification

__all__ = ["check", "specification"]
