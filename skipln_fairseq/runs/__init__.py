"""Running fairseq's commands: what they print, what they cost, what they leave."""

from .checkpoints import remove_damaged
from .command import CommandFailed, Usage, run
from .log import read_log, record

__all__ = ["CommandFailed", "Usage", "read_log", "record", "remove_damaged", "run"]
