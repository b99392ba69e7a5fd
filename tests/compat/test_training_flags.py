"""Each flag of saving and of validation acts; those that are refused stand in test_refused_training_flags.py."""

import shutil
from pathlib import Path

import pytest
import torch
from fairseq.dataclass.configs import CheckpointConfig, DatasetConfig
from fairseq.tasks.translation import TranslationConfig

from skipln_fairseq.compat import training_flags
from tests.support.commands import TRAIN, run

SMALL = [
    *("--encoder-embed-dim=32", "--encoder-ffn-embed-dim=32", "--encoder-layers=1", "--decoder-layers=1"),
    *("--encoder-attention-heads=2", "--decoder-attention-heads=2"),
]
STILL = "--lr=1e-20"  # so that nothing changes from epoch to epoch
DIVERGING = "--lr=0.9"  # so that the first epoch is the best one


def train(data, folder, *flags, **how):
    return run("fairseq-train", data, *TRAIN, *SMALL, "--save-dir", folder, *flags, **how)


def names(folder: Path) -> set[str]:
    return {path.stem.removeprefix("checkpoint") for path in folder.glob("*.pt")}


@pytest.fixture(scope="module")
def first(data, tmp_path_factory) -> Path:
    """A run of one epoch, to resume from."""
    folder = tmp_path_factory.mktemp("first")
    train(data, folder, DIVERGING)
    return folder


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), {"1", "2", "3", "_best", "_last"}),
        (("--save-interval=2",), {"2", "_best", "_last"}),
        (("--no-epoch-checkpoints",), {"_best", "_last"}),
        (("--no-last-checkpoints", "--checkpoint-suffix=x"), {"1x", "2x", "3x", "_bestx"}),
        (("--no-save",), set()),
        (("--keep-last-epochs=1",), {"3", "_best", "_last"}),
        (("--patience=1", STILL), {"1", "2", "_best", "_last"}),
    ],
)
def test_what_is_saved(data, tmp_path, flags, kept):
    train(data, tmp_path, "--max-epoch=3", *flags)
    assert names(tmp_path) == kept


def test_the_best_are_kept_also_where_the_first_was_better(data, tmp_path):
    """fairseq issue 2195."""
    flags = ("--max-epoch=3", "--keep-best-checkpoints=2", DIVERGING)
    losses = [entry["valid_loss"] for entry in train(data, tmp_path, *flags).logged("valid")]
    assert losses[0] == min(losses, key=float)
    best = {float(path.stem.rpartition("_")[2][:-1]) for path in tmp_path.glob("checkpoint.best_loss_*")}
    assert best == set(sorted(map(float, losses))[:2])


def test_no_optimiser_is_saved(data, tmp_path):
    train(data, tmp_path, "--no-save-optimizer-state")
    assert "last_optimizer_state" not in torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)


@pytest.mark.parametrize(
    ("flags", "start", "changes"),
    [
        ((), "13", False),
        (("--reset-optimizer",), "1", True),
        (("--reset-dataloader",), "13", True),
        (("--optimizer-overrides={'betas': (0.5, 0.5)}",), "13", True),
    ],
)
def test_what_is_resumed(data, first, tmp_path, flags, start, changes):
    whole = train(data, tmp_path / "whole", DIVERGING, "--max-epoch=2").losses()[12:]
    shutil.copytree(first, tmp_path / "run")
    losses = train(data, tmp_path / "run", DIVERGING, "--max-epoch=2", *flags).losses()
    assert losses[0][0] == start
    assert (losses != whole) == changes


@pytest.mark.parametrize(("flags", "best"), [((), 1), (("--reset-meters",), 2)])
def test_the_best_so_far_is_resumed(data, first, tmp_path, flags, best):
    shutil.copytree(first, tmp_path / "run")
    train(data, tmp_path / "run", DIVERGING, "--max-epoch=2", *flags)
    state = torch.load(tmp_path / "run" / "checkpoint_best.pt", weights_only=False)
    assert state["extra_state"]["train_iterator"]["epoch"] == best + 1


def test_patience_counts_on_after_a_start(data, tmp_path):
    """fairseq issue 3531: the first epoch is the best one, and the fourth the third that is not better."""
    flags = (STILL, "--patience=3", "--no-epoch-checkpoints")
    train(data, tmp_path, *flags, "--max-epoch=2")
    for _ in range(2):
        finished = train(data, tmp_path, *flags, "--max-epoch=3")
    assert not finished.losses()
    finished = train(data, tmp_path, *flags, "--max-epoch=9")
    assert finished.losses()[-1][0] == "48"
    assert "hasn't improved for last 3 runs" in finished.output


def test_patience_that_is_given_later_begins_with_the_best_so_far(data, first, tmp_path):
    shutil.copytree(first, tmp_path / "run")
    finished = train(data, tmp_path / "run", DIVERGING, "--patience=1", "--max-epoch=9")
    assert finished.losses()[-1][0] == "24"


def test_another_metric_begins_anew(data, first, tmp_path):
    """Where the loss was 6, no perplexity would be better."""
    shutil.copytree(first, tmp_path / "run")
    finished = train(
        data, tmp_path / "run", DIVERGING, "--best-checkpoint-metric=ppl", "--max-epoch=2", "--patience=2"
    )
    assert "--best-checkpoint-metric was loss and is ppl: the best is looked for anew" in finished.output
    state = torch.load(tmp_path / "run" / "checkpoint_best.pt", weights_only=False)["extra_state"]
    assert state["train_iterator"]["epoch"] == 3
    assert state["best"] == state["patience"]["best"] == state["val_loss"]


def test_continues_once(data, first, tmp_path):
    finished = train(data, tmp_path, "--continue-once", first / "checkpoint_last.pt", "--max-epoch=2")
    assert finished.losses()[0][0] == "13"


@pytest.mark.parametrize(
    ("flags", "updates"),
    [
        (("--validate-interval=2",), ["24"]),
        (("--validate-interval-updates=8",), ["8", "12", "16", "24"]),
        (("--validate-after-updates=13",), ["24"]),
        (("--disable-validation",), []),
    ],
)
def test_when_it_is_validated(data, tmp_path, flags, updates):
    finished = train(data, tmp_path, "--max-epoch=2", "--no-save", *flags)
    assert [entry["valid_num_updates"] for entry in finished.logged("valid")] == updates


@pytest.mark.parametrize(
    ("flags", "batches"),
    [
        ((), 2),
        (("--batch-size-valid=4", "--required-batch-size-multiple=1"), 3),
        (("--batch-size-valid=4", "--required-batch-size-multiple=1", "--max-valid-steps=2"), 2),
        (("--batch-size-valid=4", "--required-batch-size-multiple=1", "--max-valid-steps=1"), 1),
        (("--max-tokens-valid=40", "--required-batch-size-multiple=1"), 6),
    ],
)
def test_how_much_is_validated(data, tmp_path, flags, batches):
    """``--max-valid-steps`` N too, where fairseq takes one more."""
    finished = train(data, tmp_path, "--no-save", "--eval-bleu", "--eval-bleu-print-samples",
        '--eval-bleu-args={"beam": 1, "max_len_b": 3}', *flags)  # fmt: skip
    assert finished.output.count("example hypothesis") == batches


@pytest.mark.parametrize(("flags", "same"), [((), False), (("--fixed-validation-seed=3",), True)])
def test_draws_of_validation(data, tmp_path, flags, same):
    finished = train(data, tmp_path, "--no-save", "--max-epoch=2", STILL, "--eval-bleu", "--batch-size-valid=16",
        "--eval-bleu-print-samples", '--eval-bleu-args={"sampling": true, "max_len_b": 8}', *flags)  # fmt: skip
    lines = [
        line.partition("hypothesis: ")[2] for line in finished.output.splitlines() if "hypothesis: " in line
    ]
    assert (lines[: len(lines) // 2] == lines[len(lines) // 2 :]) == same


@pytest.fixture(scope="module")
def parted(data, tmp_path_factory) -> Path:
    """The data with a second part for validation, and one for training."""
    folder = tmp_path_factory.mktemp("parted") / "data"
    shutil.copytree(data, folder)
    for path in [*folder.glob("valid.*"), *folder.glob("train.*")]:
        shutil.copy(path, path.with_name(path.name.replace(".", "1.", 1)))
    return folder


@pytest.mark.parametrize(
    ("flags", "validated"),
    [
        ("--ignore-unused-valid-subsets", {"valid"}),
        ("--combine-valid-subsets", {"valid"}),
        ("--valid-subset=valid,valid1", {"valid", "valid1"}),
        ("--valid-subset=test,valid1", {"test", "valid1"}),
    ],
)
def test_parts_of_a_data_set(parted, tmp_path, flags, validated):
    finished = train(parted, tmp_path, "--no-save", flags)
    assert len(finished.losses()) == 23  # of both parts for training, 180 sentences each
    assert {name for name in ("valid", "valid1", "test") if finished.logged(name)} == validated
    assert ("valid1 en-de 12 examples" in finished.output) == (flags != "--ignore-unused-valid-subsets")


def test_a_part_that_nobody_asked_for(parted, tmp_path):
    finished = train(parted, tmp_path, succeeds=False)
    assert "error: Valid paths ['valid1'] will be ignored. Set --combine-val" in finished.output
    assert "Traceback" not in finished.output


def test_no_sentence_is_left(data, tmp_path):
    flags = ("--max-source-positions=3", "--max-target-positions=3", "--skip-invalid-size-inputs-valid-test")
    finished = train(data, tmp_path, *flags, succeeds=False)
    assert "error: no sentence is left: each of the 12 is longer than (3, 3) words" in finished.output
    assert "Traceback" not in finished.output


def test_bleu_of_validation_is_what_its_flags_say(data, tmp_path):
    def sample(*flags: str) -> str:
        finished = train(data, tmp_path, "--no-save", "--eval-bleu", "--eval-bleu-print-samples", *flags)
        line = next(line for line in finished.output.splitlines() if "example reference: " in line)
        return line.partition("reference: ")[2]

    words = sample('--eval-bleu-args={"beam": 1, "max_len_b": 3}')
    joined = sample('--eval-bleu-args={"beam": 1, "max_len_b": 3}', "--eval-bleu-remove-bpe=sentencepiece")
    assert joined == words.replace(" ", "")


@pytest.mark.parametrize(("flags", "differs"), [(("--eval-tokenized-bleu",), True), ((), False)])
def test_bleu_of_validation_is_of_the_words_that_its_flags_say(data, trained, tmp_path, flags, differs):
    resume = (
        "--restore-file",
        trained.checkpoint,
        "--reset-optimizer",
        STILL,
        "--no-save",
        "--eval-bleu",
        "--max-epoch=4",
    )
    scores = [
        run("fairseq-train", data, *TRAIN, *resume, "--save-dir", tmp_path, *more).logged("valid")
        for more in ((), flags)
    ]
    before, after = (float(entries[0]["valid_bleu"]) for entries in scores)
    assert before > 0
    assert (before != after) == differs


@pytest.mark.parametrize(("flags", "shrinks"), [((), True), (("--reset-lr-scheduler",), False)])
def test_the_scheduler_is_resumed(data, tmp_path, flags, shrinks):
    """The third epoch is no better than the first, unless that is forgotten."""
    slow = ("--lr=1e-6", "--lr-threshold=0.5")  # torch shrinks no rate by less than 1e-8
    scheduler = (*slow, "--lr-scheduler=reduce_lr_on_plateau", "--lr-patience=0", "--lr-shrink=0.5")
    train(data, tmp_path, *scheduler, "--max-epoch=2", "--no-epoch-checkpoints")
    resumed = train(data, tmp_path, *scheduler, *flags, "--max-epoch=4", "--no-epoch-checkpoints")
    assert (float(resumed.logged("train")[-1]["train_lr"]) < 1e-6) == shrinks


ACTS = {
    *(
        "save_dir",
        "restore_file",
        "continue_once",
        "finetune_from_model",
        "reset_dataloader",
        "reset_lr_scheduler",
    ),
    *("reset_meters", "reset_optimizer", "optimizer_overrides", "save_interval", "save_interval_updates"),
    *("keep_interval_updates", "keep_interval_updates_pattern", "keep_last_epochs", "keep_best_checkpoints"),
    *("no_save", "no_epoch_checkpoints", "no_last_checkpoints", "no_save_optimizer_state"),
    *("best_checkpoint_metric", "maximize_best_checkpoint_metric", "patience", "checkpoint_suffix"),
    *("load_checkpoint_on_all_dp_ranks", "checkpoint_shard_count", "model_parallel_size"),
    *("num_workers", "skip_invalid_size_inputs_valid_test", "max_tokens", "batch_size"),
    *("required_batch_size_multiple", "required_seq_len_multiple", "dataset_impl", "data_buffer_size"),
    *("train_subset", "valid_subset", "combine_valid_subsets", "ignore_unused_valid_subsets"),
    *("validate_interval", "validate_interval_updates", "validate_after_updates", "fixed_validation_seed"),
    *("disable_validation", "max_tokens_valid", "batch_size_valid", "max_valid_steps", "curriculum"),
    *("gen_subset", "num_shards", "shard_id", "grouped_shuffling", "update_epoch_batch_itr"),
    *(
        "update_ordered_indices_seed",
        "eval_bleu",
        "eval_bleu_args",
        "eval_bleu_detok",
        "eval_bleu_detok_args",
    ),
    *("eval_tokenized_bleu", "eval_bleu_remove_bpe", "eval_bleu_print_samples"),
}
REFUSED_ALWAYS = {"write_checkpoints_asynchronously"}


def test_every_flag_of_saving_and_validation_is_judged_here():
    """A flag that a later fairseq adds has to be looked at before it counts as acting."""
    flags = {*vars(CheckpointConfig()), *vars(DatasetConfig())} - {"_name"}
    flags |= {flag for flag in vars(TranslationConfig()) if flag.startswith("eval_")}
    assert flags == ACTS | REFUSED_ALWAYS
    read = set().union(*training_flags.READ_BY.values())
    assert read | set(training_flags.BLEU) | {"model_parallel_size"} == flags


def test_validation_writes_words_by_the_detokeniser_that_is_named(data, trained, tmp_path):
    """Moses' puts a comma to the word before it; a name that is none is told."""
    bleu = ("--eval-bleu", "--max-update=1", "--no-save", "--save-dir", tmp_path)
    finished = run("fairseq-train", data, *TRAIN, *bleu, "--eval-bleu-detok=nonesuch", succeeds=False)
    assert "'nonesuch'" in finished.output.strip().splitlines()[-1]
    code = (
        "import json, sys; import skipln_fairseq; from fairseq import tasks; "
        "from fairseq.data import Dictionary; from fairseq.tasks.translation import TranslationTask; "
        "from unittest.mock import patch; from fairseq.tasks.fairseq_task import FairseqTask; "
        "from fairseq.tasks.translation import TranslationConfig; "
        "cfg = TranslationConfig(source_lang='en', target_lang='de', eval_bleu=True, eval_bleu_args='{}', "
        "eval_bleu_detok='moses', eval_bleu_detok_args=json.dumps({'source_lang': 'en', 'target_lang': 'de'})); "
        "task = TranslationTask(cfg, Dictionary(), Dictionary()); "
        "patch.object(FairseqTask, 'build_model', lambda *a: None).start(); "
        "patch.object(TranslationTask, 'build_generator', lambda *a, **k: None).start(); "
        "task.build_model(None); print(task.tokenizer.decode('Hallo , Welt .'))"
    )
    assert run("-c", code).output.strip().splitlines()[-1] == "Hallo, Welt."
