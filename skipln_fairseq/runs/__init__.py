"""Running fairseq's commands: what they print, what they cost, what they leave."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from .command import CommandFailed, Usage, run
from .lines import read_lines
from .lock import locked
from .log import progress, read_log, record
from .resumable import run_resumable
from .stages import Stages
from .translations import Translations

__all__ = [
    "CommandFailed",
    "Stages",
    "Translations",
    "Usage",
    "locked",
    "progress",
    "read_lines",
    "read_log",
    "record",
    "run",
    "run_resumable",
]
