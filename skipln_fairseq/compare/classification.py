"""The images of the test set classified by a trained model."""

import sys
from importlib import import_module
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..runs import read_lines, run
from ..runs.settings import words
from .cell import Cell
from .data import Data

__all__ = ["Classification"]

COMMAND = "skipln_fairseq.images.predict"


class Classification(Cell):
    """Classes by ``python -m skipln_fairseq.images.predict``, whose flags are those of the cell. A model that diverged
    before its first checkpoint gets every image wrong.
    """

    score = "top-1 %"
    further = ("top-5 %",)
    unit = "image"

    @staticmethod
    def check(data: Data) -> None:
        """The task says what is wrong with images."""

    @staticmethod
    def check_options(options) -> None:
        if options:
            raise UserError(f"score: {', '.join(options)}: the accuracy has no options")

    def check_command(self, name) -> None:
        # imported by its name, as it runs by it: comparisons of translations need no images
        import_module(COMMAND).check_flags(name, words(self.flags))

    @property
    def command(self) -> list[str]:
        return [
            *("python", "-m", COMMAND, "--path", str(self.training.checkpoint)),
            *("--data", str(self.training.data.path), "--output", str(self.file(".txt"))),
            *words(self.flags),
            *(["--diverged", *words(self.training.flags)] if self.lost else []),
        ]

    def _evaluate(self, environment, on_start) -> dict[str, Any]:
        command = [sys.executable, *self.command[1:]]
        run(command, self.file(".log"), environment=environment, on_start=on_start)
        found = np.array([int(line) for line in read_lines(self.file(".txt"))])
        share = {k: 100 * float(((found >= 1) & (found <= k)).mean()) for k in (1, 5)}
        return {
            "scores": {f"top-{k} %": value for k, value in share.items()},
            "signatures": [f"{len(found)} images"],
        }

    def _statistics(self) -> np.ndarray:
        right = np.array([line == "1" for line in read_lines(self.file(".txt"))], dtype=float)
        return np.stack([right, np.ones_like(right)], 1)

    def scored(self, sums: np.ndarray) -> float:
        return 100 * float(sums[0] / sums[1])
