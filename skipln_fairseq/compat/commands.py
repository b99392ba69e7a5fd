"""A wrong path or a wrongly encoded input ends a fairseq command in one line, not in a traceback."""

from collections.abc import Callable
from typing import Any

from fairseq.distributed import utils as distributed_utils

from skipln_fairseq.compat.patch import around
from skipln_fairseq.errors import UserError

__all__ = ["apply"]

WRONG_PATH = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


def apply() -> None:
    """Translate what the user can put right, for all commands that run through ``call_main``.

    Everything else, such as a full disk or a lost connection, keeps its traceback.
    """

    @around(distributed_utils, "call_main")
    def call_main(stock, cfg: Any, main: Callable[..., Any], **kwargs: Any) -> None:
        try:
            stock(cfg, main, **kwargs)
        except WRONG_PATH as error:
            raise UserError(str(error)) from error
        except UnicodeError as error:
            raise UserError(f"text in the wrong encoding, UTF-8 is expected: {error}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise UserError(str(error)) from error  # fairseq's own: "Model file not found: …"
