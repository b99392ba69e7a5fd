"""Criteria that fairseq registers under their names."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from .label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion

__all__ = ["LabelSmoothedCrossEntropyCriterion"]
