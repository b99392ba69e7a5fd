"""The connection's flags on the command line; :mod:`.flags` reads them."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.errors import UserError
from ..nn import MIXINGS, NORMS, PLACEMENTS, QK_NORMS, SKIPS, SOLVERS, SOURCES, STARTS, VALUES
from ..nn.variant import Option
from ..probe.log import add_probe_args
from .attention_flags import add_attention_args
from .choices import SIDES, SLOTS
from .family import option_owners
from .forms import FORMS
from .kernels import add_kernels_arg
from .word_vectors import add_embedding_arg

__all__ = ["add_connection_args"]


def add_connection_args(parser, sides: Sequence[str] = SIDES) -> None:
    """Add the connection's flags to fairseq's model-specific parser group.

    No type and no choices: :func:`connections` is the one place that reads the values, whether
    they come from the command line, a checkpoint or ``--model-overrides``.
    """
    add_probe_args(parser)
    add_kernels_arg(parser)
    add_embedding_arg(parser)
    add_attention_args(parser, [*sides, "cross"] if "encoder" in sides else sides)
    choices = {
        "skip-type": ("TYPE", f"how F(x) meets x: {', '.join(SKIPS)}"),
        "skip-norm": ("NORM", f"norm of the sub-layers: {', '.join(NORMS)}"),
        "norm-placement": ("PLACE", f"where the norm stands: {', '.join(PLACEMENTS)}"),
        "qk-norm": (
            "NAME",
            f"norm of queries, keys and values: {', '.join(QK_NORMS)} (default: the placement's own)",
        ),
        "initialisation": ("NAME", f"first weights: {', '.join(STARTS)} (default: fairseq)"),
        "value-residual": ("NAME", f"values of self-attention: {', '.join(VALUES)} (default: none)"),
        "drop-path": ("P", "drop F(x) of a whole sentence with this probability (default: 0)"),
        "depth-mixing": ("MIX", f"what a block reads of all outputs before it: {', '.join(MIXINGS)}"),
    }
    parser.add_argument(
        "--connection-form",
        metavar="FORM",
        # a default and not left out, so that what a training stores says which it was
        default=FORMS[0],
        help="Sub-LN, ReZero, ResiDual, B2T and PowerNorm as in their authors' code (authors, the default), or as "
        "this plugin had them first (first), which is what older checkpoints are",
    )
    for side in ("", *(f"{side}-" for side in sides)):
        where = f"{side[:-1]} only, overrides the flag for both sides: " if side else ""
        for flag, (metavar, text) in choices.items():
            parser.add_argument(f"--{side}{flag}", metavar=metavar, help=where + text)
        parser.add_argument(
            f"--{side}by-layer",
            nargs="+",
            metavar="RANGE:NAME=VALUE,…",
            help=where + "choices for some layers, counted from 0, such as 0-2:norm-placement=post",
        )
        for name, owners in option_owners().items():
            _add_option(parser, f"--{side}{name.replace('_', '-')}", owners, where)
    if "encoder" in sides:
        text = f"how often and to what each encoder block is applied: {', '.join(SOLVERS)}"
        parser.add_argument("--encoder-solver", metavar="SOLVER", help=text)
        text = f"what attention to the encoder reads: {', '.join(SOURCES)} (default: last)"
        parser.add_argument("--cross-attention-source", metavar="NAME", help=text)
    for side in sides:
        for slot in SLOTS[side]:
            if slot == "cross_attn" and "encoder" not in sides:
                continue
            flag = f"--{side}-{slot.replace('_', '-')}-skip-norm"
            parser.add_argument(flag, metavar="NORM", help=f"norm of the {side}'s {slot} alone")


def _add_option(parser: argparse.ArgumentParser, flag: str, owners: Mapping[str, Option], where: str) -> None:
    try:
        parser.add_argument(flag, **_described(owners, where))
    except argparse.ArgumentError as error:
        raise UserError(
            f"{flag}, an option of {', '.join(owners)}: fairseq has a flag of that name; declare another one"
        ) from error


def _described(owners: Mapping[str, Option], where: str) -> dict[str, Any]:
    """What argparse is told of an option; those of several variants under one flag are of one kind."""
    texts = dict.fromkeys(f"{option.help} (of {choice})" for choice, option in owners.items())
    metavar = next(iter(owners.values())).metavar
    kind = {"action": argparse.BooleanOptionalAction} if metavar is None else {"metavar": metavar}
    return {"help": where + "; ".join(texts), **kind}
