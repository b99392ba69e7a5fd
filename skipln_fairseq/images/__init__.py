"""Image classification: ``--task image_classification``, its criterion, its models. Translation knows nothing of it."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from . import criterion, models, task

__all__ = ["criterion", "models", "task"]
