"""Connections, norms and skip rules in pure torch: nothing here knows fairseq or a flag."""

from .connection import ConnectionConfig, build_connection, build_end, initialise_branch
from .fused import fuse
from .norm import NORMS, norms_of
from .placement import PLACEMENTS, Connection
from .qk_norm import QK_NORMS, QKNorm
from .skip import SKIPS, Branch
from .skip.admin import AdminSkip
from .start import STARTS, Start

__all__ = [
    "NORMS",
    "PLACEMENTS",
    "QK_NORMS",
    "SKIPS",
    "STARTS",
    "AdminSkip",
    "Branch",
    "Connection",
    "ConnectionConfig",
    "QKNorm",
    "Start",
    "build_connection",
    "build_end",
    "fuse",
    "initialise_branch",
    "norms_of",
]
