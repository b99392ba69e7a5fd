"""No advice to install tensorboardX at each start.

fairseq imports its text-to-speech task with all others, and that one logs the advice where tensorboardX is missing.
Nothing but speech, and ``--tensorboard-logdir``, has a use for it.
"""

import logging

__all__ = ["apply"]

TASK = "fairseq.tasks.text_to_speech"


def _is_no_advice(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Please install tensorboardX")


def apply() -> None:
    """Drop this message of this task. Has to come before the first import of fairseq."""
    logging.getLogger(TASK).addFilter(_is_no_advice)


apply()
