"""``--best-checkpoint-metric`` is looked up before a run trains, and is there whatever the model writes."""

import numpy as np
import pytest
from fairseq.logging import metrics
from fairseq.tasks.translation import TranslationTask

import skipln_fairseq  # noqa: F401  (the workaround)
from tests.support.commands import EVAL_BLEU, TRAIN, run

BLEU = ("--best-checkpoint-metric=bleu", "--maximize-best-checkpoint-metric")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            BLEU,
            "--best-checkpoint-metric bleu: validation measures bsz, loss, ppl, wpb, wps; bleu needs --eval-bleu",
        ),
        (("--best-checkpoint-metric=blue",), "--best-checkpoint-metric blue: validation measures bsz, loss"),
        (("--maximize-best-checkpoint-metric",), "the best loss is the smallest; leave it out"),
        ((*EVAL_BLEU, BLEU[0]), "the best one is the largest; add --maximize-best-checkpoint-metric"),
    ],
)
def test_refused_before_training(data, tmp_path, flags, message):
    finished = run("fairseq-train", data, *TRAIN, "--save-dir", tmp_path, *flags, succeeds=False)
    (error,) = (line for line in finished.output.splitlines() if "error:" in line)
    assert message in error
    assert "Traceback" not in finished.output
    assert not finished.losses()


@pytest.mark.parametrize("flags", [(), ("--skip-type=admin",), ("--skip-norm=batch",)])
def test_the_look_changes_nothing_in_the_training(data, tmp_path, flags):
    train = ("fairseq-train", data, *TRAIN, "--no-save", "--dropout=0.3", *flags, "--save-dir", tmp_path)
    looked = run(*train, "--best-checkpoint-metric=ppl")
    assert looked.losses() == run(*train).losses()
    assert len(looked.logged("valid")) == 1


def test_no_output_at_all_is_bleu_0(data, tmp_path):
    """fairseq measures no BLEU there (issue 3338), and dies before it saves."""
    silent = '--eval-bleu-args={"beam": 2, "max_len_b": 0, "min_len": 0}'
    finished = run("fairseq-train", data, *TRAIN, "--save-dir", tmp_path, "--eval-bleu", silent, *BLEU)
    assert [entry["valid_bleu"] for entry in finished.logged("valid")] == ["0"]
    assert (tmp_path / "checkpoint_best.pt").exists()


def test_a_batch_without_output_counts_for_the_length():
    """BLEU over two batches is that of their sums, also where one holds no word."""

    class Criterion:
        reduce_metrics = staticmethod(lambda logging_outputs: None)

    class Config:
        eval_bleu = True

    task = TranslationTask.__new__(TranslationTask)
    task.cfg = Config()

    def batch(counts, totals, written, expected):
        numbered = {f"_bleu_counts_{i}": n for i, n in enumerate(counts)}
        numbered |= {f"_bleu_totals_{i}": n for i, n in enumerate(totals)}
        return {
            **numbered,
            "_bleu_sys_len": written,
            "_bleu_ref_len": expected,
            "ntokens": 9,
            "nsentences": 1,
        }

    empty, full = batch([0] * 4, [0] * 4, 0, 10), batch([8, 7, 6, 5], [10, 9, 8, 7], 10, 10)
    found = []
    for batches in ([empty, full], [full, empty], [full]):
        with metrics.aggregate(new_root=True) as measured:
            for one in batches:
                task.reduce_metrics([one], Criterion())
            found.append(measured.get_smoothed_values()["bleu"])
    assert found[0] == found[1] == pytest.approx(found[2] * np.exp(1 - 20 / 10), abs=0.01)
