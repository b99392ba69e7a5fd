"""Connections, norms and skip rules in pure torch: nothing here knows fairseq or a flag."""

from .connection import ConnectionConfig, build_connection, build_end, connect_projection
from .fused import fuse
from .norm import BATCH_NORMS, NORMS, TOKEN_NORMS
from .placement import PLACEMENTS, Connection
from .skip import SKIPS, AdminSkip, SkipOptions

__all__ = [
    "BATCH_NORMS",
    "NORMS",
    "PLACEMENTS",
    "SKIPS",
    "TOKEN_NORMS",
    "AdminSkip",
    "Connection",
    "ConnectionConfig",
    "SkipOptions",
    "build_connection",
    "build_end",
    "connect_projection",
    "fuse",
]
