"""Connections, norms and skip rules in pure torch: nothing here knows fairseq or a flag."""

from .connection import PLACEMENTS, Connection, ConnectionConfig, build_connection
from .norm import NORMS, LayerNorm, NoNorm
from .skip import SKIPS, ExpandedSkip, PlainSkip, RecursiveSkip, SkipOptions

__all__ = [
    "NORMS",
    "PLACEMENTS",
    "SKIPS",
    "Connection",
    "ConnectionConfig",
    "ExpandedSkip",
    "LayerNorm",
    "NoNorm",
    "PlainSkip",
    "RecursiveSkip",
    "SkipOptions",
    "build_connection",
]
