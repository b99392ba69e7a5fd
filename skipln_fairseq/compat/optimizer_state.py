"""A checkpoint whose optimizer does not fit this run's is told in one line, with the flag that goes on without it.

Checkpoints up to 0.8 hold queries, keys and values as one parameter, and those of 0.12.2 some of them twice, so that
their optimizer counts fewer or more.
"""

from typing import Any

from fairseq.trainer import Trainer

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

DOES_NOT_FIT = ("parameter group", "Criterion does not match", "Optimizer does not match")


def apply() -> None:
    """Explain what torch and fairseq raise when they put an optimizer's state back."""

    @around(Trainer, "load_checkpoint")
    def load_checkpoint(stock, self: Trainer, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return stock(self, filename, *args, **kwargs)
        except (AssertionError, ValueError) as error:
            if not any(words in str(error) for words in DOES_NOT_FIT):
                raise
            raise UserError(
                f"{filename}: the optimizer's state there is of another optimizer, criterion or set of parameters (as "
                "in checkpoints up to fairseq 0.8, and of 0.12.2); go on without it by --reset-optimizer"
            ) from error
