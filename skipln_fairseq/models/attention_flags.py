"""From command-line flags to one :class:`AttentionConfig` for each kind of attention."""

import argparse
from typing import Any

from ..common.errors import UserError
from ..nn.attention import KERNELS, FavorConfig
from .attention import ATTENTIONS, AttentionConfig

__all__ = ["add_attention_args", "attentions", "refuse_attention"]

KINDS = ("encoder", "decoder", "cross")
FAVOR_FLAGS = {
    "favor_kernel": ("KERNEL", f"kernel of FAVOR+ attention: {', '.join(KERNELS)} (default: positive)"),
    "favor_features": ("M", "random features of FAVOR+, at least 1 (default: 256)"),
    "favor_orthogonal": (None, "orthogonal random features (unless --no-favor-orthogonal)"),
    "favor_fixed_length": (None, "ω of length √d, not that of Gaussian vectors (SMREG)"),
    "favor_redraw_interval": ("N", "draw the features again every N updates, 0: never (default: 1000)"),
    "favor_seed": ("SEED", "of the features (default: 1)"),
}


def add_attention_args(parser, kinds=KINDS) -> None:
    """Add the attention's flags to fairseq's model-specific parser group."""
    types = ", ".join(ATTENTIONS)
    parser.add_argument("--attention-type", metavar="TYPE", help=f"self-attention of all stacks: {types}")
    for kind in kinds:
        what = "attention to the encoder" if kind == "cross" else f"{kind}'s self-attention"
        text = f"{what}: {types}{' (default: softmax)' if kind == 'cross' else ''}"
        parser.add_argument(f"--{kind}-attention-type", metavar="TYPE", help=text)
    for name, (metavar, text) in FAVOR_FLAGS.items():
        kind = {"action": argparse.BooleanOptionalAction} if metavar is None else {"metavar": metavar}
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **kind)


def _whole(flag: str, value: Any, least: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise UserError(f"{flag} {value}: valid is a whole number of at least {least}")
    return number


def _kinds(args) -> list[str]:
    """The kinds of attention that the model has."""
    if getattr(args, "language_model", False):
        return ["decoder"]
    return [kind for kind in KINDS if kind != "cross" or not getattr(args, "no_cross_attention", False)]


def _checked(flag: str, value: str | None) -> str | None:
    if value is not None and value not in ATTENTIONS:
        raise UserError(f"{flag} {value}: valid are {', '.join(ATTENTIONS)}")
    return value


def _type(args, kind: str) -> str:
    of_all = _checked("--attention-type", getattr(args, "attention_type", None))
    own = _checked(f"--{kind}-attention-type", getattr(args, f"{kind}_attention_type", None))
    return own or (of_all if kind != "cross" else None) or "softmax"


def attentions(args) -> dict[str, AttentionConfig]:
    """Read and check the attention flags.

    Returns:
        ``{"encoder": …, "decoder": …, "cross": …}``: both self-attentions, and the attention to the encoder.

    Raises:
        UserError: for a value out of range, or a flag of FAVOR+ where nothing has it.
    """
    kinds = _kinds(args)
    if getattr(args, "cross_attention_type", None) is not None and "cross" not in kinds:
        raise UserError("--cross-attention-type has no meaning with --no-cross-attention")
    given = {name: getattr(args, name, None) for name in FAVOR_FLAGS}
    given = {name: value for name, value in given.items() if value is not None}
    types = {kind: _type(args, kind) if kind in kinds else "softmax" for kind in KINDS}
    if given and "favor" not in types.values():
        raise UserError(f"--{next(iter(given)).replace('_', '-')} has no meaning where no attention is favor")
    default = FavorConfig()
    kernel = given.get("favor_kernel", default.kernel)
    if kernel not in KERNELS:
        raise UserError(f"--favor-kernel {kernel}: valid are {', '.join(KERNELS)}")
    favor = FavorConfig(
        kernel,
        _whole("--favor-features", given.get("favor_features", default.features), 1),
        bool(given.get("favor_orthogonal", default.orthogonal)),
        bool(given.get("favor_fixed_length", default.fixed_length)),
        _whole("--favor-redraw-interval", given.get("favor_redraw_interval", default.redraw_interval), 0),
        _whole("--favor-seed", given.get("favor_seed", default.seed), 0),
    )
    return {
        kind: AttentionConfig(name, favor) if name == "favor" else AttentionConfig()
        for kind, name in types.items()
    }


def refuse_attention(args) -> None:
    """Refuse what FAVOR+ cannot do.

    Raises:
        UserError: in one line.
    """
    found = attentions(args)
    for kind, config in found.items():
        if config.type != "favor":
            continue
        side = "encoder" if kind == "encoder" else "decoder"
        dim, heads = (getattr(args, f"{side}_{name}", None) for name in ("embed_dim", "attention_heads"))
        if dim and heads and dim % heads:
            raise UserError(
                f"--{kind}-attention-type favor: --{side}-embed-dim {dim} is not divisible by "
                f"--{side}-attention-heads {heads}"
            )
    if found["decoder"].type == "favor" and getattr(args, "cross_self_attention", False):
        raise UserError("--cross-self-attention needs softmax attention in the decoder")
    if found["cross"].type == "favor" and getattr(args, "alignment_heads", None) is not None:
        raise UserError("--cross-attention-type favor has no attention weights to align by; softmax has")
    xformers = [side for side in ("encoder", "decoder") if getattr(args, f"{side}_xformers_att_config", None)]
    if xformers and any(config.type == "favor" for config in found.values()):
        raise UserError(f"--{xformers[0]}-xformers-att-config and favor attention exclude each other")
