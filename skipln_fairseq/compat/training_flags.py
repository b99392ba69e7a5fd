"""A flag of fairseq's saving, validation and optimisation acts, or is refused in one line.

All of fairseq's commands take these flags, though most of them read few; some act only beside a second flag, and some
values end in an error after the first epoch.
"""

import ast
import json
import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq import options
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.dataclass.configs import CheckpointConfig, DatasetConfig, GenerationConfig
from fairseq.distributed.fully_sharded_data_parallel import has_FSDP
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModelBase
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.tasks.translation import TranslationConfig

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.evaluated import literal
from skipln_fairseq.compat.patch import around
from skipln_fairseq.compat.sharding import refuse_beside_sharding

__all__ = ["apply"]

SAVING, DATA = (
    {name: value for name, value in vars(config()).items() if name not in ("_name", "model_parallel_size")}
    for config in (CheckpointConfig, DatasetConfig)
)  # model_parallel_size is of the common flags, and only stands here once more
BLEU = {name: value for name, value in vars(TranslationConfig()).items() if name.startswith("eval_")}

TRANSFORMERS = (TransformerModelBase, TransformerLanguageModel)
OF_A_PLAIN_SOFTMAX = (CrossEntropyCriterion, LabelSmoothedCrossEntropyCriterion)

LOADING = {"checkpoint_suffix", "checkpoint_shard_count"}
BATCHES = {"num_workers", "max_tokens", "batch_size", "data_buffer_size"}
LENGTHS = {"skip_invalid_size_inputs_valid_test", "required_batch_size_multiple"}
FOLDER = LENGTHS | {"dataset_impl", "required_seq_len_multiple"}
READ_BY = {
    "fairseq-generate": LOADING | BATCHES | FOLDER | {"gen_subset"},
    "fairseq-interactive": LOADING | BATCHES | LENGTHS,
    "fairseq-validate": BATCHES | FOLDER | {"valid_subset"},
    "fairseq-eval-lm": BATCHES | {"gen_subset", "num_shards", "shard_id", "dataset_impl"},
    "fairseq-train": {*SAVING, *DATA} - {"gen_subset", "num_shards", "shard_id", "checkpoint_shard_count"},
}
"""What each command reads of ``CheckpointConfig`` and ``DatasetConfig``."""

NEEDS = {
    "keep_interval_updates": "save_interval_updates",
    "keep_interval_updates_pattern": "keep_interval_updates",
    **{flag: "eval_bleu" for flag in BLEU if flag != "eval_bleu"},
}
"""Flags of training that act only beside another."""

IDLE_BESIDE = {
    "no_epoch_checkpoints": ("keep_last_epochs",),
    "combine_valid_subsets": ("valid_subset",),
    "no_save": ("keep_best_checkpoints", "keep_last_epochs", "keep_interval_updates"),
    # which says itself that there is no best, so that the metric that would choose it may stay
    "disable_validation": (
        *("keep_best_checkpoints", "patience", "valid_subset", "combine_valid_subsets", "validate_interval"),
        *("validate_interval_updates", "validate_after_updates", "fixed_validation_seed", "max_valid_steps"),
        *("ignore_unused_valid_subsets", "eval_bleu"),
    ),
}
"""Flags of training that do nothing beside another."""


def apply() -> None:
    """Check the flags once they are parsed."""

    @around(options, "parse_args_and_arch")
    def parse_args_and_arch(stock, parser: Any, *args: Any, **kwargs: Any) -> Any:
        parsed = stock(parser, *args, **kwargs)
        flags: Namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        once = not kwargs.get("suppress_defaults")  # for which fairseq parses by way of this function, too
        if once and hasattr(flags, "gen_subset"):
            _refuse_what_the_command_does_not_read(flags)
            _refuse_shards_that_are_not_put_together(flags)
            for check in CHECKS.get(_command(flags), ()):
                check(flags)
        return parsed


def _command(flags: Namespace) -> str:
    """Whose flags they are, by one that it alone has."""
    for flag, command in (
        ("max_epoch", "fairseq-train"),
        ("buffer_size", "fairseq-interactive"),
        ("beam", "fairseq-generate"),
        ("output_word_probs", "fairseq-eval-lm"),
    ):
        if hasattr(flags, flag):
            return command
    return "fairseq-validate"


def _name(flag: str) -> str:
    return "--" + flag.replace("_", "-")


def _given(flags: Namespace, flag: str) -> bool:
    """Whether a flag differs from what it is where nobody gives it."""
    value = getattr(flags, flag, None)
    unset = [None, False, {**SAVING, **DATA, **BLEU}[flag]]
    if flag in ("max_tokens_valid", "batch_size_valid"):  # fairseq copies it there
        unset.append(getattr(flags, flag.removesuffix("_valid")))
    return value not in unset and not _of_another(value)


def _of_another(value: Any) -> bool:
    """Whether it is what another flag is, as fairseq writes it."""
    return isinstance(value, str) and value.startswith("${")


def _refuse_what_the_command_does_not_read(flags: Namespace) -> None:
    command = _command(flags)
    for flag in (*SAVING, *DATA):
        if flag not in READ_BY[command] and _given(flags, flag):
            raise UserError(f"{_name(flag)}: {command} does not read it; leave it out")


def _refuse_shards_that_are_not_put_together(flags: Namespace) -> None:
    """fairseq loads the last one alone then."""
    shards = getattr(flags, "checkpoint_shard_count", 1)  # not every command has the flag
    if shards != 1 and not has_FSDP:
        raise UserError(
            f"--checkpoint-shard-count {shards}: fairseq puts together what fairscale has "
            "saved, and nothing else; that is not installed"
        )


def _refuse_what_does_nothing(flags: Namespace) -> None:
    for flag, other in NEEDS.items():
        if _given(flags, flag) and not _given(flags, other):
            raise UserError(f"{_name(flag)} acts only beside {_name(other)}")
    for other, idle in IDLE_BESIDE.items():
        for flag in idle:
            if _given(flags, other) and _given(flags, flag):
                raise UserError(f"{_name(flag)} does nothing beside {_name(other)}: leave one out")


def _refuse_names_that_are_not_found_again(flags: Namespace) -> None:
    """fairseq reads the score behind the last underscore of a kept file's name."""
    if flags.keep_best_checkpoints > 0 and "_" in flags.checkpoint_suffix:
        raise UserError(
            f"--checkpoint-suffix {flags.checkpoint_suffix}: beside --keep-best-checkpoints without an underscore"
        )


def _refuse_what_cannot_be_loaded(flags: Namespace) -> None:
    if flags.write_checkpoints_asynchronously:
        raise UserError(
            "--write-checkpoints-asynchronously: fairseq writes one file of each save then, and neither "
            "checkpoint_best.pt nor checkpoint_last.pt; leave it out"
        )
    if flags.quantization_config_path is not None:
        raise UserError(
            "--quantization-config-path: fairseq has no way to load the quantised model that it trains; "
            "--quant-noise-pq trains for it, and --int8 decodes in 8 bits"
        )


def _refuse_what_resumes_nothing(flags: Namespace) -> None:
    last = Path(flags.save_dir, f"checkpoint_last{flags.checkpoint_suffix}.pt")
    if flags.continue_once and not last.exists() and not Path(flags.continue_once).exists():
        raise UserError(f"--continue-once {flags.continue_once}: no such file")
    try:
        overrides = dict(ast.literal_eval(flags.optimizer_overrides))
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(
            f"--optimizer-overrides {flags.optimizer_overrides!r}: valid is \"{{'betas': (0.9, 0.98)}}\" and its like"
        ) from error
    if "lr" in overrides:
        raise UserError("--optimizer-overrides: the scheduler sets lr; give --lr and --reset-lr-scheduler")


def _refuse_numbers_that_no_optimizer_takes(flags: Namespace) -> None:
    """fairseq finds out when the first update begins: after the data were read, and in ``compare`` run by run."""
    if any(not 0 <= rate < math.inf for rate in flags.lr):
        raise UserError(f"--lr {','.join(map(str, flags.lr))}: valid are finite numbers from 0")
    betas = getattr(flags, "adam_betas", None)
    if isinstance(betas, str):
        try:
            read = tuple(map(float, literal(betas)))
        except (UserError, TypeError, ValueError):
            read = ()
        if len(read) != 2 or not all(0 <= one < 1 for one in read):
            raise UserError(
                f'--adam-betas {betas!r}: valid is "(0.9, 0.98)" and its like, two numbers from 0, below 1'
            )


def _refuse_a_loss_that_is_not_of_the_softmax(flags: Namespace) -> None:
    """fairseq finds out in the first update: its log-probabilities of an adaptive softmax are written in place, and
    have no gradient.
    """
    # other models, whose softmax is adaptive only with that loss, have cutoffs by default; transformer_lm has none
    if not issubclass(ARCH_MODEL_REGISTRY[flags.arch], TRANSFORMERS):
        return
    cutoffs = getattr(flags, "adaptive_softmax_cutoff", None)
    of_a_plain_one = issubclass(CRITERION_REGISTRY[flags.criterion], OF_A_PLAIN_SOFTMAX)
    if flags.criterion == "adaptive_loss" and not cutoffs:
        raise UserError("--criterion adaptive_loss needs --adaptive-softmax-cutoff")
    if flags.criterion == "adaptive_loss" and flags.ddp_backend in ("c10d", "pytorch_ddp"):
        raise UserError("--criterion adaptive_loss needs --ddp-backend legacy_ddp")
    if of_a_plain_one and cutoffs:
        raise UserError(
            f"--criterion {flags.criterion} trains no adaptive softmax (--adaptive-softmax-cutoff {cutoffs}): "
            "valid is adaptive_loss, with --ddp-backend legacy_ddp"
        )


def _refuse_unknown_names_in_eval_bleu_args(flags: Namespace) -> None:
    if not getattr(flags, "eval_bleu", False):
        return
    for flag in ("eval_bleu_args", "eval_bleu_detok_args"):
        try:
            found = json.loads(getattr(flags, flag))
        except json.JSONDecodeError as error:
            raise UserError(f"{_name(flag)} {getattr(flags, flag)!r} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise UserError(f'{_name(flag)} {getattr(flags, flag)!r}: valid is {{"name": value, …}}')
    unknown = set(json.loads(flags.eval_bleu_args)) - set(vars(GenerationConfig()))
    if unknown:
        raise UserError(f"--eval-bleu-args: fairseq-generate has no {', '.join(map(_name, sorted(unknown)))}")


def _refuse_windows_and_shards_that_hold_nothing(flags: Namespace) -> None:
    longest = getattr(flags, "tokens_per_sample", None)  # of language models only
    if isinstance(longest, int) and not 0 <= flags.context_window < longest:
        raise UserError(
            f"--context-window {flags.context_window}: valid is 0 to --tokens-per-sample - 1, {longest - 1}"
        )
    if not 0 <= flags.shard_id < flags.num_shards:
        raise UserError(
            f"--shard-id {flags.shard_id}: valid is 0 to --num-shards - 1, {flags.num_shards - 1}"
        )


def _within(flag: str, valid: str, holds: Callable[[Any], bool]) -> Callable[[Namespace], None]:
    def check(flags: Namespace) -> None:
        value = getattr(flags, flag)
        if value is None or _of_another(value):
            return
        # fairseq reads some of them as text
        if not str(value).removeprefix("-").isdecimal() or not holds(int(value)):
            raise UserError(f"{_name(flag)} {value}: valid is {valid}")

    return check


OF_TRAINING = (
    _refuse_what_cannot_be_loaded,
    refuse_beside_sharding,
    *(
        _within(flag, "a whole number from 1", lambda n: n >= 1)
        for flag in (
            *("save_interval", "validate_interval", "max_valid_steps", "required_batch_size_multiple"),
            *("max_tokens", "batch_size", "max_tokens_valid", "batch_size_valid"),
        )
    ),
    *(
        _within(flag, "a whole number from 0", lambda n: n >= 0)
        for flag in (
            *("save_interval_updates", "validate_interval_updates", "validate_after_updates", "num_workers"),
            "curriculum",
        )
    ),
    *(
        _within(flag, "a whole number from 1, or -1 for no limit", lambda n: n == -1 or n >= 1)
        for flag in (
            *("keep_interval_updates", "keep_interval_updates_pattern", "keep_last_epochs"),
            *("keep_best_checkpoints", "patience"),
        )
    ),
    _refuse_what_does_nothing,
    _refuse_names_that_are_not_found_again,
    _refuse_what_resumes_nothing,
    _refuse_numbers_that_no_optimizer_takes,
    _refuse_a_loss_that_is_not_of_the_softmax,
    _refuse_unknown_names_in_eval_bleu_args,
)

CHECKS: dict[str, tuple[Callable[[Namespace], None], ...]] = {
    "fairseq-train": OF_TRAINING,
    "fairseq-eval-lm": (_refuse_windows_and_shards_that_hold_nothing,),
}
