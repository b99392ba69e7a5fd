"""Running fairseq's commands: what they print, what they cost, what they leave."""

from .checkpoints import remove_damaged
from .command import CommandFailed, Usage, run
from .lock import locked
from .log import read_log, record
from .stages import Stages

__all__ = ["CommandFailed", "Stages", "Usage", "locked", "read_log", "record", "remove_damaged", "run"]
