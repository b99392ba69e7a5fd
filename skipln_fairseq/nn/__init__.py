"""Connections, norms and skip rules in pure torch: nothing here knows fairseq or a flag."""

from importlib.metadata import entry_points

from .choice import ChoiceError, choose
from .connection import (
    ConnectionConfig,
    build_connection,
    build_end,
    build_mixing,
    build_solver,
    initialise_branch,
)
from .embedding import EMBEDDINGS, WordVectors
from .fused import fuse
from .mixing import MIXINGS
from .norm import NORMS, norms_of
from .placement import PLACEMENTS, Connection
from .qk_norm import QK_NORMS, QKNorm
from .residual import Residual, set_num_updates
from .skip import SKIPS, Branch
from .skip.admin import AdminSkip
from .solver import SOLVERS, Solver
from .source import SOURCES, Source
from .start import STARTS, Start
from .value import VALUES, ValueResidual, project_before

__all__ = [
    "EMBEDDINGS",
    "MIXINGS",
    "NORMS",
    "PLACEMENTS",
    "QK_NORMS",
    "SKIPS",
    "SOLVERS",
    "SOURCES",
    "STARTS",
    "VALUES",
    "AdminSkip",
    "Branch",
    "ChoiceError",
    "Connection",
    "ConnectionConfig",
    "QKNorm",
    "Residual",
    "Solver",
    "Source",
    "Start",
    "ValueResidual",
    "WordVectors",
    "build_connection",
    "build_end",
    "build_mixing",
    "build_solver",
    "choose",
    "fuse",
    "initialise_branch",
    "norms_of",
    "project_before",
    "set_num_updates",
]

# other packages' variants, which declare themselves as those of the axes' folders do
for _package in entry_points(group="skipln_fairseq.variants"):
    _package.load()
