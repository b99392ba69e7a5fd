"""One cell of a comparison: a trained model, evaluated. ``MEASURES`` (:mod:`.measures`) says in which ways."""

import hashlib
import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..common.errors import UserError
from ..common.files import write_json, write_text
from ..runs.settings import Flags, words
from .data import Data
from .record import read_record, read_statistics
from .training import Training, ran

__all__ = ["Cell"]

STATISTICS = ".csv"


@dataclass(frozen=True)
class Cell(ABC):
    """A model on the test set. The model is the best checkpoint on the validation set.

    Args:
        training: of the model.
        flags: of the command that evaluates.
        options: of the score.
    """

    training: Training
    flags: Flags
    options: Mapping[str, Any]

    score: ClassVar[str]
    """Heading of what variants are compared by; more is better, from 0 to 100."""
    unit: ClassVar[str]
    """What the loss is a mean over, and what is counted in a second."""
    further: ClassVar[tuple[str, ...]] = ()
    """Headings of what is shown besides."""
    files: ClassVar[tuple[str, ...]] = ()
    """What an entry of the grid's data names besides the data."""

    @staticmethod
    @abstractmethod
    def check(data: Data) -> None:
        """Refuse data that are not there."""

    @staticmethod
    @abstractmethod
    def check_options(options: Mapping[str, Any]) -> None:
        """Refuse options that the score has not.

        Raises:
            UserError: names them.
        """

    @abstractmethod
    def check_command(self, name: str) -> None:
        """Refuse flags that the evaluation does not know.

        Raises:
            UserError: begins with ``name``.
        """

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """Of the evaluation."""

    @abstractmethod
    def _evaluate(
        self, environment: Mapping[str, str], on_start: Callable[[subprocess.Popen], None]
    ) -> dict[str, Any]:
        """Evaluate; gives the result."""

    @abstractmethod
    def _statistics(self) -> np.ndarray:
        """:meth:`statistics`, from what the evaluation has left."""

    @abstractmethod
    def scored(self, sums: np.ndarray) -> float:
        """The score of sums of :meth:`statistics`, (numbers)."""

    def length_ratio(self, sums: np.ndarray) -> float | None:
        """Length of the outputs over that of the references, of sums of :meth:`statistics`; None without outputs that
        have a length.
        """
        return None

    def samples(self, lines: Sequence[int]) -> list[dict[str, str]]:
        """Examples to read: ``source``, ``reference`` and ``output`` of each; none where there is nothing to read."""
        return []

    @property
    def _shape(self) -> list[Any]:
        """All that the result follows from, besides the training."""
        return [words(self.flags), dict(self.options)]

    def file(self, suffix: str) -> Path:
        """A file of this evaluation."""
        digest = hashlib.sha256(json.dumps(self._shape).encode()).hexdigest()
        return self.training.folder / f"test-{digest[:8]}{suffix}"

    def result(self) -> dict[str, Any] | None:
        """``scores`` by their headings, ``signatures``, and ``command`` and ``where`` as of a training; or None if it
        has not been evaluated.
        """
        done = self.file(".json")
        return read_record(done) if done.is_file() else None

    def statistics(self) -> np.ndarray:
        """(examples, numbers): what the score of any of the examples is computed from, when it is summed over them."""
        kept = self.file(STATISTICS)
        if not kept.is_file():  # evaluated before they were kept
            return self._statistics()
        return read_statistics(kept)

    @property
    def lost(self) -> bool:
        """Whether there is no model, as the training diverged before its first checkpoint."""
        trained = self.training.result()
        # not to be taken for one that was left behind, where only records were copied
        return trained["diverged"] and not trained.get("checkpoint", self.training.checkpoint.is_file())

    def evaluate(
        self, environment: Mapping[str, str], on_start: Callable[[subprocess.Popen], None]
    ) -> dict[str, Any]:
        """Evaluate, and keep the result and the :meth:`statistics`.

        Raises:
            UserError: the model was removed, the command failed, or the test set is another one.
        """
        if not (self.lost or self.training.checkpoint.is_file()):
            raise UserError(f"{self.training.checkpoint} is missing: remove its folder to train again")
        result = self._evaluate(environment, on_start) | ran(self.command, self.flags)
        lines = (",".join(f"{number:.17g}" for number in example) for example in self._statistics())
        write_text(self.file(STATISTICS), "".join(f"{line}\n" for line in lines))
        write_json(self.file(".json"), result)
        return result
