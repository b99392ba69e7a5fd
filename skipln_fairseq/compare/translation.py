"""The test set translated by a trained model, and scored."""

from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.bleu import BLEUScore

from ..common.errors import UserError
from ..common.files import write_text
from ..runs import Translations, read_lines, run
from ..runs.bleu import check_bleu
from ..runs.built import check_generation
from ..runs.settings import words
from .cell import Cell
from .data import Data

__all__ = ["Translation"]


class Translation(Cell):
    """Translations by fairseq-generate. A model that diverged before its first checkpoint has translated nothing: its
    lines are empty.

    The flags are fairseq-generate's, the options those of :class:`sacrebleu.metrics.BLEU`, whose case chrF has too;
    an entry of the grid's data names the plain text of the test set, ``source`` and ``reference``. It is scored as it
    is: flags that give plain text belong to it, for Moses' tokens ``--tokenizer moses`` with both languages.
    """

    score = "BLEU"
    further = ("chrF",)
    unit = "token"
    files = ("source", "reference")

    @staticmethod
    def check(data: Data) -> None:
        for file in data.files.values():
            if not file.is_file():
                raise UserError(f"data: {data.name}: {file}: no such file")
        if len(read_lines(data.files["reference"])) < 2:
            raise UserError(
                f"data: {data.name}: {data.files['reference']}: fewer than two sentences to test on"
            )
        if not list(data.path.glob("dict.*.txt")):
            raise UserError(f"data: {data.name}: {data.path}: no binarised data of fairseq-preprocess")

    @staticmethod
    def check_options(options) -> None:
        check_bleu("score", options)

    def check_command(self, name) -> None:
        check_generation(name, self.command[1:])

    @property
    def command(self) -> list[str]:
        return [
            *("fairseq-generate", str(self.training.data.path), "--user-dir", self.training.user_dir),
            *("--path", str(self.training.checkpoint), "--gen-subset", "test"),
            *words(self.flags),
        ]

    @property
    def _shape(self) -> list[Any]:
        return [*super()._shape, self.references()]

    def references(self) -> list[str]:
        """What people have translated."""
        return read_lines(self.training.data.files["reference"])

    def hypotheses(self) -> list[str]:
        """The translations, in the test set's order."""
        return read_lines(self.file(".txt"))

    def _evaluate(self, environment, on_start) -> dict[str, Any]:
        references = self.references()
        lines = [""] * len(references)
        if not self.lost:
            lines = self._translated(environment, on_start)
        if len(lines) != len(references):
            raise UserError(
                f"{self.training.data.files['reference']} has {len(references)} lines, the test set of "
                f"{self.training.data.path} {len(lines)}: they must be the same sentences"
            )
        write_text(self.file(".txt"), "".join(f"{line}\n" for line in lines))
        case = {"lowercase": True} if self.options.get("lowercase") else {}
        metrics = {"BLEU": BLEU(**self.options), "chrF": CHRF(**case)}
        return {
            "scores": {name: each.corpus_score(lines, [references]).score for name, each in metrics.items()},
            "signatures": [f"{name} {each.get_signature()}" for name, each in metrics.items()],
        }

    def _translated(self, environment, on_start) -> list[str]:
        translations = Translations()
        log = self.file(".log")
        log.unlink(missing_ok=True)
        run(self.command, log, translations.on_line, environment=environment, on_start=on_start)
        return translations.lines()

    def _statistics(self) -> np.ndarray:
        # what sacreBLEU's own tests resample, which have no place for several translations of a sentence
        found = BLEU(**self.options)._extract_corpus_statistics(self.hypotheses(), [self.references()])
        return np.asarray(found, dtype=float)

    def _bleu(self, sums: np.ndarray) -> BLEUScore:
        return BLEU(**self.options)._compute_score_from_stats(sums)

    def scored(self, sums: np.ndarray) -> float:
        return self._bleu(sums).score

    def length_ratio(self, sums: np.ndarray) -> float:
        """In sacreBLEU's tokens."""
        return self._bleu(sums).ratio

    def samples(self, lines) -> list[dict[str, str]]:
        sources, references = read_lines(self.training.data.files["source"]), self.references()
        hypotheses = self.hypotheses()
        return [
            {"source": sources[line], "reference": references[line], "output": hypotheses[line]}
            for line in lines
        ]
