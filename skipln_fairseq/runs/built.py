"""A command of fairseq tried as far as its model, before hours of other runs: what it refuses is known at once."""

import argparse
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from ..common.arguments import refuse_in_one_line
from ..common.errors import UserError

__all__ = ["check_generation", "check_training"]


def check_training(name: str, words: Sequence[str]) -> None:
    """Parse the words of fairseq-train, and build the task, the model and the criterion that they name.

    Raises:
        UserError: begins with ``name``, and says in one line what fairseq or this plugin refuses.
    """
    args = _parsed(name, options.get_training_parser(), words)
    try:
        with _quiet():
            cfg = convert_namespace_to_omegaconf(args)
            task = tasks.setup_task(cfg.task)
            task.build_model(cfg.model)
            task.build_criterion(cfg.criterion)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # what stock models and tasks refuse, they refuse by any kind of exception
        reason = next(iter(str(error).splitlines()), "")
        raise UserError(f"{name}: {type(error).__name__}: {reason}") from error


def check_generation(name: str, words: Sequence[str]) -> None:
    """Parse the words of fairseq-generate.

    Raises:
        UserError: as :func:`check_training`.
    """
    _parsed(name, options.get_generation_parser(), words)


def _parsed(name: str, parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    refuse_in_one_line(parser)
    try:
        return options.parse_args_and_arch(parser, list(words))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what hydra warns of and what tasks report: the trainings say it again."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
