"""A flag of fairseq's decoding commands acts, or is refused in one line.

fairseq takes flags there that nothing reads for translation, others that only act beside a second flag, and values
that end in an assertion deep in the search.
"""

import math
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from fairseq import options
from fairseq.dataclass.configs import GenerationConfig

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

DEFAULTS = GenerationConfig()

READ_BY = {
    **dict.fromkeys(
        (
            "decoding_format",
            "iter_decode_eos_penalty",
            "iter_decode_max_iter",
            "iter_decode_force_max_iter",
            "iter_decode_with_beam",
            "iter_decode_with_external_reranker",
            "retain_iter_history",
            "print_step",
        ),
        ("translation_lev",),
    ),
    **dict.fromkeys(
        ("eos_token", "beam_mt", "max_len_a_mt", "max_len_b_mt", "lenpen_mt"),
        ("speech_to_text", "speech_to_speech"),
    ),
}
"""Flags that only some tasks read; each task's name begins so."""

NEEDS = {
    "sampling_topk": "sampling",
    "sampling_topp": "sampling",
    "diverse_beam_strength": "diverse_beam_groups",
    "lm_weight": "lm_path",
    "retain_dropout_modules": "retain_dropout",
}
"""Flags that act only beside another."""

NO_SOURCE_WORDS = (
    "--replace-unk: there is no source word to copy, since data folders and fairseq-interactive keep <unk> in its "
    "place; train on sub-words, which leave no word unknown"
)


def apply() -> None:
    """Check the flags once they are parsed."""

    @around(options, "parse_args_and_arch")
    def parse_args_and_arch(
        stock, parser: Any, input_args: list[str] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        # Nothing reads --sacrebleu. A scorer brings flags of its own, so it is chosen before these are read; the parser
        # cannot read a thing yet, since it may have to import another --user-dir first.
        if "--sacrebleu" in (sys.argv if input_args is None else input_args):
            parser.set_defaults(scoring="sacrebleu")
        parsed = stock(parser, input_args, *args, **kwargs)
        flags: Namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if hasattr(flags, "beam"):
            for check in CHECKS:
                check(flags)
        return parsed


def _name(flag: str) -> str:
    return "--" + flag.replace("_", "-")


def _given(flags: Namespace, flag: str) -> bool:
    return getattr(flags, flag, None) not in (None, getattr(DEFAULTS, flag))


def _refuse_what_no_one_reads(flags: Namespace) -> None:
    for flag, tasks in READ_BY.items():
        if _given(flags, flag) and not str(flags.task).startswith(tasks):
            raise UserError(
                f"{_name(flag)} has no meaning with --task {flags.task}: {' and '.join(tasks)} read it"
            )
    for flag in ("no_early_stop", "no_beamable_mm"):
        if _given(flags, flag):
            raise UserError(f"{_name(flag)} does nothing in fairseq 0.12: leave it out")
    for flag, other in NEEDS.items():
        if _given(flags, flag) and not _given(flags, other):
            raise UserError(f"{_name(flag)} acts only beside {_name(other)}")
    if flags.sacrebleu and flags.scoring != "sacrebleu":
        raise UserError(f"--sacrebleu and --scoring {flags.scoring}: one scorer at a time")
    if flags.replace_unk is not None:
        raise UserError(NO_SOURCE_WORDS)
    if (flags.num_shards, flags.shard_id) != (1, 0):
        raise UserError(
            "--num-shards and --shard-id: only fairseq-eval-lm reads them; split the text instead"
        )


def _refuse_what_the_command_cannot_do(flags: Namespace) -> None:
    interactive = hasattr(flags, "buffer_size")
    if interactive and flags.print_alignment == "soft":
        raise UserError("--print-alignment soft: fairseq-interactive prints hard alignments only")
    if flags.score_reference and flags.print_alignment == "soft":
        raise UserError("--print-alignment soft: --score-reference prints hard alignments only")
    if not interactive and flags.constraints:
        raise UserError(
            "--constraints: a data folder holds none; use fairseq-interactive, with each constraint behind a tab"
        )


def _within(flag: str, valid: str, holds: Callable[[Any], bool]) -> Callable[[Namespace], None]:
    def check(flags: Namespace) -> None:
        value = getattr(flags, flag)
        if value is not None and not holds(value):
            raise UserError(f"{_name(flag)} {value}: valid is {valid}")

    return check


def _refuse_sizes_that_do_not_fit(flags: Namespace) -> None:
    if not 1 <= flags.nbest <= flags.beam:
        raise UserError(f"--nbest {flags.nbest}: valid is 1 to --beam, which is {flags.beam}")
    if flags.sampling and flags.nbest != flags.beam:
        raise UserError(
            f"--sampling draws --beam translations: --nbest {flags.nbest} must equal --beam {flags.beam}"
        )
    if flags.max_len_a == 0 and flags.min_len > flags.max_len_b:
        raise UserError(f"--min-len {flags.min_len} is larger than --max-len-b {flags.max_len_b}")
    # beside --match-source-len fairseq says that the two exclude each other
    alone = not flags.match_source_len
    if alone and flags.diverse_beam_groups > 0 and flags.beam % flags.diverse_beam_groups:
        raise UserError(
            f"--diverse-beam-groups {flags.diverse_beam_groups}: --beam {flags.beam} must be a multiple of it"
        )


CHECKS = (
    _refuse_what_no_one_reads,
    _refuse_what_the_command_cannot_do,
    *(
        _within(flag, "a whole number from 1", lambda n: n >= 1)
        for flag in ("beam", "max_len_b", "batch_size")
    ),
    *(
        _within(flag, "a whole number from 0", lambda n: n >= 0)
        for flag in ("min_len", "prefix_size", "no_repeat_ngram_size")
    ),
    *(_within(flag, "a finite number", math.isfinite) for flag in ("lenpen", "unkpen", "lm_weight")),
    _within("max_len_a", "a finite number from 0", lambda x: x >= 0 and math.isfinite(x)),
    _within("temperature", "a finite number above 0", lambda x: x > 0 and math.isfinite(x)),
    _within("sampling_topk", "a whole number from 1, or -1 for all", lambda n: n == -1 or n >= 1),
    _within("sampling_topp", "above 0 and at most 1, or -1 for all", lambda p: p == -1 or 0 < p <= 1),
    _within("diverse_beam_groups", "a whole number from 1, or -1 for none", lambda n: n == -1 or n >= 1),
    _refuse_sizes_that_do_not_fit,
)
