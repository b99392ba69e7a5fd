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
    if not hasattr(flags, "beam") and not hasattr(flags, "context_window"):  # fairseq-eval-lm has the latter
        return parsed
    chosen = [name for name in ("int8", "bf16", "fp16") if getattr(flags, name, False)]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]}: one type at a time")
    if chosen in (["int8"], ["bf16"]):
        overrides = ast.literal_eval(flags.model_overrides) | {"inference_type": chosen[0]}
        flags.model_overrides = repr(overrides)
    return parsed
