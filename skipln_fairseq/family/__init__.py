"""The whole family as a table and as a picture."""

from .. import plugin  # noqa: F401  (prepares fairseq)
