"""Criteria that fairseq registers under their names."""

from .label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion

__all__ = ["LabelSmoothedCrossEntropyCriterion"]
