"""What came out: scores with their signatures, a learning curve, and translations to read."""

import random
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sacrebleu.metrics import BLEU, CHRF

from skipln_fairseq.common.files import whole

__all__ = ["bleu", "draw_curve", "print_samples", "print_scores", "sparkline"]

SAMPLES = 8
BARS = "▁▂▃▄▅▆▇█"
# sacreBLEU's tokenisers for languages that do not separate words by spaces.
TOKENISERS = {
    "zh-cn": "zh",
    "zh-tw": "zh",
    "zh-hans": "zh",
    "zh-hant": "zh",
    "ja": "char",
    "km": "char",
    "dz": "char",
}


def bleu(translations: Sequence[str], references: Sequence[str], target_lang: str) -> tuple[float, str]:
    """sacreBLEU's corpus BLEU (0 to 100) of plain, not tokenised text, and its signature."""
    metric = BLEU(tokenize=TOKENISERS.get(target_lang, "13a"))
    return metric.corpus_score(list(translations), [list(references)]).score, str(metric.get_signature())


def print_scores(
    console: Console,
    sources: Sequence[str],
    references: Sequence[str],
    translations: Sequence[str],
    lang: str,
) -> None:
    """BLEU and chrF of the translations, beside those of the source sentences left as they are."""
    chrf = CHRF()
    table = Table(title=f"{len(references)} held-out sentences")
    table.add_column("")
    table.add_column("BLEU", justify="right")
    table.add_column("chrF", justify="right")
    for name, texts in (("translation", translations), ("copy of the source", sources)):
        score, signature = bleu(texts, references, lang)
        character_score = chrf.corpus_score(list(texts), [list(references)]).score
        table.add_row(name, f"{score:.1f}", f"{character_score:.1f}")
    console.print(table)
    console.print(f"BLEU {signature}", highlight=False, soft_wrap=True)
    console.print(f"chrF2 {chrf.get_signature()}", highlight=False, soft_wrap=True)


def print_samples(
    console: Console,
    sources: Sequence[str],
    references: Sequence[str],
    translations: Sequence[str],
    seed: int,
) -> None:
    """Some held-out sentences, drawn by ``seed`` and not picked, from short to long."""
    chosen = random.Random(seed).sample(range(len(sources)), min(SAMPLES, len(sources)))
    table = Table(title=f"{len(chosen)} of them, drawn at random", show_lines=True)
    for column in ("source", "reference", "translation"):
        table.add_column(column, ratio=1, overflow="fold")
    for i in sorted(chosen, key=lambda i: len(sources[i])):
        # Text is not markup: a sentence may hold [brackets].
        table.add_row(*(text.replace("[", r"\[") for text in (sources[i], references[i], translations[i])))
    console.print(table)


def _points(records: list[dict[str, float]], prefix: str) -> tuple[list[float], list[float]]:
    kept = [r for r in records if f"{prefix}num_updates" in r and f"{prefix}nll_loss" in r]
    return [r[f"{prefix}num_updates"] for r in kept], [r[f"{prefix}nll_loss"] for r in kept]


def draw_curve(records: list[dict[str, float]], title: str, file: Path) -> None:
    """A PNG of loss over updates (bits per sub-word), in training and validation."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")  # not pyplot: that may look for a screen
    axes = figure.subplots()
    axes.plot(*_points(records, ""), linewidth=1, label="training")
    axes.plot(*_points(records, "valid_"), marker="o", label="validation")
    axes.set(xlabel="updates", ylabel="bits per sub-word", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(file) as beside:
        figure.savefig(beside, format="png")


def sparkline(records: list[dict[str, float]], width: int = 40) -> str:
    """The training loss as one line of bars, from high to low, or nothing without records."""
    losses = _points(records, "")[1]
    if not losses:
        return ""
    step = max(1, len(losses) // width)
    losses = losses[::step]
    low, high = min(losses), max(losses)
    scale = (len(BARS) - 1) / (high - low or 1)
    return "".join(BARS[round((loss - low) * scale)] for loss in losses)
