"""A damaged dictionary, one of another size than the model's, or another number of layers ends a command in one line.

fairseq does not say where in the file it stopped, and lists all parameters of a model that do not fit.
"""

import io
from collections.abc import Mapping
from typing import Any

from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel
from fairseq.trainer import Trainer
from torch import Tensor

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.kept_layers import depth
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

SHOWN = 60  # characters of a line that is none


def apply() -> None:
    """Explain after the fact what fairseq refuses, so that whole files are read once."""

    @around(Dictionary, "add_from_file")
    def add_from_file(stock, self: Dictionary, f: Any) -> None:
        try:
            stock(self, f)
        except OSError:
            raise
        except Exception as error:  # of bad encoding fairseq makes a plain Exception
            if not isinstance(f, str):
                raise  # to the call with the file's name, which this one comes from
            raise UserError(damage(f, stock, hasattr(self, "nspecial")) or f"{f}: {error}") from error

    @around(BaseFairseqModel, "load_state_dict")
    def load_state_dict(
        stock, self: BaseFairseqModel, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return stock(self, state_dict, *args, **kwargs)
        except RuntimeError:
            refuse_other_dictionary(self.state_dict(), state_dict)
            refuse_other_depth(self.state_dict(), state_dict)
            raise

    @around(Trainer, "load_checkpoint")
    def load_checkpoint(stock, *args: Any, **kwargs: Any) -> Any:
        try:
            return stock(*args, **kwargs)
        except Exception as error:
            if isinstance(error.__context__, UserError):  # "ensure that the architectures match" says less
                raise error.__context__ from None
            raise


def damage(file: str, add_from_file: Any, special_symbols: bool) -> str | None:
    """Which line fairseq stumbles over, and why."""
    dictionary = Dictionary(add_special_symbols=special_symbols)
    # Invalid bytes become surrogates, which no valid text holds.
    with open(file, encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            place = f"{file}, line {number}"
            try:
                line.encode("utf-8")
                add_from_file(dictionary, io.StringIO(line))
            except UnicodeEncodeError:
                return f"{place}: not valid UTF-8"
            except ValueError:
                return f"{place}: a word, a space and its count are expected, not {line.rstrip()[:SHOWN]!r}"
            except RuntimeError:
                word = line.rsplit(" ", 1)[0][:SHOWN]
                return f"{place}: {word!r} stands in it already, or is one of fairseq's own symbols"
    return None


def refuse_other_dictionary(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Refuse embeddings of more or fewer words than the model has."""
    for key in own:
        if key.endswith("embed_tokens.weight") and key in stored:
            here, there = len(own[key]), len(stored[key])
            if here != there:
                raise UserError(
                    f"the checkpoint's {key} is of {there} words, and the dictionary has {here}: use the dictionary "
                    "that it was trained with"
                )


def refuse_other_depth(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Refuse more or fewer layers than the model has."""
    for side in ("encoder", "decoder"):
        here, there = depth(own, side), depth(stored, side)
        if here != there:
            raise UserError(
                f"the checkpoint's {side} has {there} layers, and the model's {here}: say --{side}-layers {there}, or "
                f"choose some of them with --{side}-layers-to-keep"
            )
