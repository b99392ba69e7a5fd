"""``--best-checkpoint-metric`` names something that validation measures, or the run ends before it trains.

fairseq looks it up after the first epoch, and dies before it saves. BLEU is missing there wherever a model wrote
nothing yet.
"""

from typing import Any

import numpy as np
import sacrebleu
from fairseq import checkpoint_utils, utils
from fairseq.data import data_utils
from fairseq.logging import metrics
from fairseq.tasks.translation import EVAL_BLEU_ORDER, TranslationTask
from fairseq.trainer import Trainer

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

SMALLER_IS_BETTER = ("loss", "nll_loss", "ppl", "wer")
LARGER_IS_BETTER = ("bleu", "accuracy", "top1")


def apply() -> None:
    """Look the metric up once the model stands and the data are there; ``fairseq-train`` alone loads so."""

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Trainer, **kwargs: Any) -> Any:
        loaded = stock(cfg, trainer, **kwargs)
        if not trainer.cfg.dataset.disable_validation:
            _refuse_the_wrong_direction(cfg)
            _refuse_what_is_not_measured(cfg.best_checkpoint_metric, trainer)
        return loaded

    @around(TranslationTask, "reduce_metrics")
    def reduce_metrics(stock, task: TranslationTask, logging_outputs: list[dict], criterion: Any) -> None:
        stock(task, logging_outputs, criterion)
        if any("_bleu_sys_len" in output for output in logging_outputs):
            _log_bleu_of_no_words(logging_outputs)


def _refuse_the_wrong_direction(cfg: Any) -> None:
    """The best of them would be the worst."""
    metric, maximise = cfg.best_checkpoint_metric, cfg.maximize_best_checkpoint_metric
    if metric in SMALLER_IS_BETTER and maximise:
        raise UserError(f"--maximize-best-checkpoint-metric: the best {metric} is the smallest; leave it out")
    if metric in LARGER_IS_BETTER and not maximise:
        raise UserError(
            f"--best-checkpoint-metric {metric}: the best one is the largest; add --maximize-best-checkpoint-metric"
        )


def _refuse_what_is_not_measured(metric: str, trainer: Trainer) -> None:
    """Validate one batch, as only task and criterion know what they measure. The run's random numbers stay its own."""
    if metric == "loss":  # which every criterion has
        return
    subset = trainer.cfg.dataset.valid_subset.split(",")[0]  # fairseq takes the metric of the first
    seed = trainer.cfg.common.seed
    with (
        utils.set_torch_seed(seed),
        data_utils.numpy_seed(seed),
        metrics.aggregate(new_root=True) as measured,
    ):
        batches = trainer.get_valid_iterator(subset)
        # read here and not by the iterator, whose loader goes on reading ahead, with workers that validation will need
        sentences = [batches.dataset[index] for index in batches.frozen_batches[0]]
        trainer.valid_step(batches.collate_fn(sentences))
        names = sorted(name for name in measured.get_smoothed_values() if not name.startswith("_"))
    if metric not in names:
        needs = "; bleu needs --eval-bleu" if metric == "bleu" else ""
        raise UserError(f"--best-checkpoint-metric {metric}: validation measures {', '.join(names)}{needs}")


def _log_bleu_of_no_words(outputs: list[dict[str, Any]]) -> None:
    """What fairseq leaves out of the sum, and so of BLEU's length of the references, where no word was written."""
    orders = range(EVAL_BLEU_ORDER)
    if any(output.get(f"_bleu_totals_{order}", 0) > 0 for output in outputs for order in orders):
        return
    metrics.log_scalar("_bleu_counts", np.zeros(EVAL_BLEU_ORDER))
    metrics.log_scalar("_bleu_totals", np.zeros(EVAL_BLEU_ORDER))
    metrics.log_scalar("_bleu_sys_len", 0)
    metrics.log_scalar("_bleu_ref_len", utils.item(sum(output.get("_bleu_ref_len", 0) for output in outputs)))
    metrics.log_derived("bleu", _bleu)


def _bleu(meters: Any) -> float:
    """As fairseq computes it; the first to log it decides by which function."""
    score = sacrebleu.BLEU.compute_bleu(
        correct=meters["_bleu_counts"].sum,
        total=meters["_bleu_totals"].sum,
        sys_len=int(meters["_bleu_sys_len"].sum),
        ref_len=int(meters["_bleu_ref_len"].sum),
        smooth_method="exp",
    )
    return round(score.score, 2)
