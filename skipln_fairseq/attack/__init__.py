"""Adversarial images by the Skip Gradient Method, and whether they transfer to other models."""

from .. import plugin  # noqa: F401  (prepares fairseq)
