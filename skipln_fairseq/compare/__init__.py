"""Models compared: a grid of variants, seeds and data; what is missing is run, and all is reported."""

from .. import plugin  # noqa: F401  (prepares fairseq)
