"""Flags of fairseq's decoding commands: ``--int8``, and ``--bf16``, which fairseq takes there and ignores."""

import ast
from argparse import ArgumentParser, Namespace
from typing import Any

from fairseq import options

from ..common.errors import UserError
from ..compat.patch import around

__all__: list[str] = []


@around(options, "add_generation_args")
def add_generation_args(stock, parser: ArgumentParser) -> Any:
    """Add ``--int8``."""
    group = stock(parser)
    group.add_argument("--int8", action="store_true", help="decode with 8-bit weights, on a CPU")
    return group


@around(options, "parse_args_and_arch")
def parse_args_and_arch(stock, *args: Any, **kwargs: Any) -> Any:
    """Hand the type on to the models, as one of ``--model-overrides``: fairseq's configuration has no place for it."""
    parsed = stock(*args, **kwargs)
    flags: Namespace = parsed[0] if isinstance(parsed, tuple) else parsed
    overrides = _dictionary(flags.model_overrides) if hasattr(flags, "model_overrides") else {}
    if not hasattr(flags, "beam") and not hasattr(flags, "context_window"):  # fairseq-eval-lm has the latter
        return parsed
    chosen = [name for name in ("int8", "bf16", "fp16") if getattr(flags, name, False)]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]}: one type at a time")
    if chosen in (["int8"], ["bf16"]):
        if overrides.get("inference_type", chosen[0]) != chosen[0]:
            raise UserError(
                f"--{chosen[0]} and --model-overrides {flags.model_overrides}: one type at a time"
            )
        flags.model_overrides = repr({**overrides, "inference_type": chosen[0]})
    return parsed


def _dictionary(text: str) -> dict[str, Any]:
    """What ``--model-overrides`` says."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"--model-overrides {text}: valid is a dictionary, as {{'dropout': 0.1}}")
    return found
