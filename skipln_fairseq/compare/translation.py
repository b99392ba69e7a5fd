"""The test set translated by a trained model, and scored."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from ..errors import UserError
from ..runs import run
from ..runs.settings import Flags, words
from .files import write_json, write_text
from .training import Training

__all__ = ["Translation", "read_lines"]


@dataclass(frozen=True)
class Translation:
    """The translations of one training's best checkpoint. A model that diverged before its first checkpoint has
    translated nothing: its lines are empty.

    Args:
        training: the model.
        generate: flags of fairseq-generate.
        bleu: arguments of :class:`sacrebleu.metrics.BLEU`.
    """

    training: Training
    generate: Flags
    bleu: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """Of fairseq-generate."""
        return [
            *("fairseq-generate", str(self.training.data.path), "--user-dir", self.training.user_dir),
            *("--path", str(self.training.checkpoint), "--gen-subset", "test"),
            # The default is 8, and fairseq drops a last batch, the longest sentences, of another size.
            *("--required-batch-size-multiple", "1"),
            *words(self.generate),
        ]

    @property
    def _name(self) -> Path:
        shape = json.dumps([words(self.generate), dict(self.bleu), read_lines(self.training.data.reference)])
        return self.training.folder / f"test-{hashlib.sha256(shape.encode()).hexdigest()[:8]}"

    @property
    def hypotheses_file(self) -> Path:
        """One plain line for each of the test set's."""
        return self._name.with_suffix(".txt")

    def result(self) -> dict[str, Any] | None:
        """``bleu`` and ``chrf`` (both 0 to 100) with their signatures, or None if it has not been translated."""
        done = self._name.with_suffix(".json")
        return json.loads(done.read_text("utf-8")) if done.is_file() else None

    def hypotheses(self) -> list[str]:
        """The translations, in the test set's order."""
        return read_lines(self.hypotheses_file)

    def translate(
        self,
        environment: Mapping[str, str],
        on_start: Callable[[subprocess.Popen], None],
    ) -> dict[str, Any]:
        """Translate and score, and keep both.

        Raises:
            UserError: the command failed, or gave another number of lines than the reference has.
        """
        references = read_lines(self.training.data.reference)
        lines = [""] * len(references)
        if self.training.checkpoint.is_file():
            lines = self._translated(environment, on_start)
        if len(lines) != len(references):
            raise UserError(
                f"{self.training.data.reference} has {len(references)} lines, the test set of "
                f"{self.training.data.path} {len(lines)}: they must be the same sentences"
            )
        bleu, chrf = BLEU(**self.bleu), CHRF()
        result = {
            "bleu": bleu.corpus_score(lines, [references]).score,
            "chrf": chrf.corpus_score(lines, [references]).score,
            "bleu_signature": str(bleu.get_signature()),
            "chrf_signature": str(chrf.get_signature()),
        }
        write_text(self.hypotheses_file, "".join(f"{line}\n" for line in lines))
        write_json(self._name.with_suffix(".json"), result)
        return result

    def _translated(self, environment, on_start) -> list[str]:
        translations = {}

        def on_line(line: str) -> None:
            if line.startswith("D-"):  # number, score, text without sub-words
                number, _, text = line.rstrip("\n").split("\t")
                translations[int(number.removeprefix("D-"))] = text

        log = self._name.with_suffix(".log")
        log.unlink(missing_ok=True)
        run(self.command, log, on_line, environment=environment, on_start=on_start)
        return [translations[number] for number in sorted(translations)]


def read_lines(file: Path) -> Sequence[str]:
    """The lines of a text file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return file.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
