"""Connections, norms and skip rules in pure torch: nothing here knows fairseq or a flag."""

from .connection import (
    ConnectionConfig,
    build_connection,
    build_end,
    build_mixing,
    build_solver,
    initialise_branch,
)
from .fused import fuse
from .mixing import MIXINGS
from .norm import NORMS, norms_of
from .placement import PLACEMENTS, Connection
from .skip import SKIPS, Branch
from .skip.admin import AdminSkip
from .solver import SOLVERS, Solver

__all__ = [
    "MIXINGS",
    "NORMS",
    "PLACEMENTS",
    "SKIPS",
    "SOLVERS",
    "AdminSkip",
    "Branch",
    "Connection",
    "ConnectionConfig",
    "Solver",
    "build_connection",
    "build_end",
    "build_mixing",
    "build_solver",
    "fuse",
    "initialise_branch",
    "norms_of",
]
