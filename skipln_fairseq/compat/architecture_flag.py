"""A training without ``--arch``, or a validation without ``--task``, ends in one line."""

from typing import Any

from fairseq import options

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Say what fairseq's parser only raises, without a word."""

    @around(options, "parse_args_and_arch")
    def parse_args_and_arch(stock, *args: Any, **kwargs: Any) -> Any:
        try:
            return stock(*args, **kwargs)
        except RuntimeError as error:
            if error.args:
                raise
            raise UserError(
                "no --arch: name an architecture, for example --arch transformer_rskip"
            ) from error
        except KeyError as error:
            if error.args != (None,):
                raise
            raise UserError("no --task: name the model's, for example --task translation") from error
