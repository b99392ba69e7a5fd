"""The model's size, its training and its decoding: fairseq's own commands with every flag that matters."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipln_fairseq.runs import Translations, record

from . import commands
from .subwords import SOURCE_LANG

__all__ = ["Recipe", "train", "translate"]

MODEL = {
    "--encoder-embed-dim": 192,
    "--encoder-ffn-embed-dim": 512,
    "--encoder-layers": 2,
    "--encoder-attention-heads": 4,
    "--decoder-embed-dim": 192,
    "--decoder-ffn-embed-dim": 512,
    "--decoder-layers": 2,
    "--decoder-attention-heads": 4,
}
LEARNING_RATE = 3e-3
WARMUP_UPDATES = 300
TOKENS_PER_UPDATE = 1000
DROPOUT = 0.05  # four passes over the corpus hardly overfit
LABEL_SMOOTHING = 0.1
BEAM = 5
VALIDATIONS = 10  # points of the learning curve; each is also a checkpoint to resume from
LOG_INTERVAL = 20


@dataclass(frozen=True)
class Recipe:
    """What the user can change about the training. ``extra``: more flags for fairseq-train."""

    arch: str
    updates: int
    seed: int
    processes: int
    extra: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Everything that shapes the trained model. Changing it trains anew."""
        return {
            "flags": self.flags(),
            "processes": self.processes,  # each takes its share of an update's tokens, cut differently
        }

    def flags(self) -> list[str]:
        """The flags of fairseq-train but for its paths."""
        interval = max(1, self.updates // VALIDATIONS)
        flags = {
            "--arch": self.arch,
            **MODEL,
            "--dropout": DROPOUT,
            "--criterion": "label_smoothed_cross_entropy",
            "--label-smoothing": LABEL_SMOOTHING,
            "--optimizer": "adam",
            "--adam-betas": "(0.9, 0.98)",
            "--clip-norm": 1.0,
            # The rate falls to zero at the last update: with so few of them, that is worth several BLEU.
            "--lr-scheduler": "polynomial_decay",
            "--lr": LEARNING_RATE,
            "--warmup-updates": min(WARMUP_UPDATES, self.updates // 5),
            "--total-num-update": self.updates,
            "--max-update": self.updates,
            "--max-tokens": TOKENS_PER_UPDATE // self.processes,
            "--required-batch-size-multiple": 1,  # batches as full as they can be
            "--max-tokens-valid": 4000,
            "--seed": self.seed,
            "--validate-interval-updates": interval,
            "--save-interval-updates": interval,
            "--keep-interval-updates": 1,
            "--save-interval": self.updates,  # in epochs: never, but at the end
            "--validate-interval": self.updates,
            "--log-interval": LOG_INTERVAL,
            "--log-format": "json",
            "--num-workers": 0,
        }
        words = [str(word) for flag in flags.items() for word in flag]
        return [*words, "--share-all-embeddings", "--no-epoch-checkpoints", *self.extra]


def train(
    recipe: Recipe,
    data: Path,
    folder: Path,
    target_lang: str,
    say: Callable[[str], None],
    on_record: Callable[[dict[str, float]], None],
    keep_open: tuple[int, ...] = (),
) -> None:
    """Train to ``folder/checkpoint_last.pt``, or go on from the newest checkpoint that lies there.

    ``on_record`` gets fairseq's log records as they come, as of :func:`.read_log`.

    Raises:
        UserError: fairseq-train failed.
    """
    # One thread in each: two OpenMP threads in one process are slower than one on matrices this small.
    launcher = []
    if recipe.processes > 1:
        launcher = ["torchrun", "--nproc_per_node", str(recipe.processes), "--no-python"]

    def on_line(line: str) -> None:
        if found := record(line):
            on_record(found)

    commands.run(
        [
            *(*launcher, "fairseq-train", commands.path(data), "--user-dir", commands.USER_DIR, "--cpu"),
            *("--source-lang", SOURCE_LANG, "--target-lang", target_lang),
            *("--save-dir", commands.path(folder)),
            *recipe.flags(),
        ],
        folder / "train.log",
        say,
        on_line,
        keep_open=keep_open,
    )


def translate(
    data: Path,
    checkpoint: Path,
    part: str,
    target_lang: str,
    log: Path,
    say: Callable[[str], None],
    on_progress: Callable[[int], None],
) -> list[str]:
    """The translations of ``part`` ("valid" or "test") in its order, as plain text.

    Raises:
        UserError: fairseq-generate failed.
    """
    translations = Translations(on_progress)
    commands.run(
        [
            *("fairseq-generate", commands.path(data), "--user-dir", commands.USER_DIR, "--cpu"),
            *("--source-lang", SOURCE_LANG, "--target-lang", target_lang),
            *("--path", commands.path(checkpoint), "--gen-subset", part),
            *("--beam", str(BEAM), "--batch-size", "64", "--remove-bpe", "sentencepiece"),
        ],
        log,
        say,
        translations.on_line,
    )
    return translations.lines()
