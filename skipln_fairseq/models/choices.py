"""What the flags choose for a side on each axis, with one clear line for a choice that does not go with the others.

A flag of one side (``--encoder-skip-type``) wins over that of both (``--skip-type``).
"""

from typing import Any

from ..common.errors import UserError
from ..nn import EMBEDDINGS, MIXINGS, NORMS, PLACEMENTS, QK_NORMS, SKIPS, SOLVERS, SOURCES, STARTS, VALUES
from ..nn.valid import (
    valid_mixings,
    valid_norms,
    valid_placements,
    valid_qk_norms,
    valid_solvers,
    valid_sources,
    valid_values,
)

__all__ = [
    "SIDES",
    "SLOTS",
    "checked_mixing",
    "checked_solver",
    "embedding_of",
    "given",
    "mixing_of",
    "norm_of",
    "norms_of_side",
    "placement_of",
    "qk_norm_of",
    "sides_of",
    "skip_type_of",
    "slots_of",
    "solver_of",
    "source_of",
    "start_of",
    "value_of",
]

SIDES = ("encoder", "decoder")
SLOTS = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}


def sides_of(args) -> tuple[str, ...]:
    """The sides that the model has; a language model's preset says that it is one."""
    return ("decoder",) if getattr(args, "language_model", False) else SIDES


def slots_of(args, side: str) -> list[str]:
    """The sub-layers that a side has."""
    alone = getattr(args, "language_model", False) or getattr(args, "no_cross_attention", False)
    return [slot for slot in SLOTS[side] if not (alone and slot == "cross_attn")]


def given(args, *names: str) -> tuple[str, Any]:
    """The first of these flags that was given, and its value; the last one and None if none was."""
    for name in names:
        if getattr(args, name, None) is not None:
            break
    return "--" + name.replace("_", "-"), getattr(args, name, None)


def _choice(flag: str, value: Any, choices: dict) -> str:
    if value not in choices:
        raise UserError(f"{flag} {value}: valid are {', '.join(choices)}")
    return value


def skip_type_of(args, side: str) -> str:
    """The skip type of a side."""
    flag, value = given(args, f"{side}_skip_type", "skip_type")
    return _choice(flag, "plain" if value is None else value, SKIPS)


def norm_of(args, side: str, slot: str) -> str:
    """The norm of one sub-layer, checked against the side's skip type, whose own it is where no flag is given."""
    skip = skip_type_of(args, side)
    flag, value = given(args, f"{side}_{slot}_skip_norm", f"{side}_skip_norm", "skip_norm")
    norm = _choice(flag, valid_norms(skip)[0] if value is None else value, NORMS)
    if norm not in valid_norms(skip):
        raise UserError(
            f"{flag} {norm} does not go with --skip-type {skip}: valid are {', '.join(valid_norms(skip))}"
        )
    return norm


def mixing_of(args, side: str) -> str:
    """The mixing of depths of a side."""
    flag, value = given(args, f"{side}_depth_mixing", "depth_mixing")
    return _choice(flag, "none" if value is None else value, MIXINGS)


def checked_mixing(args, side: str, norm: str) -> str:
    """The same, checked against the side's other choices."""
    skip, placement, mixing = skip_type_of(args, side), placement_of(args, side, norm), mixing_of(args, side)
    valid = valid_mixings(skip, norm, placement)
    if mixing not in valid:
        instead = " stands in the place of the skip, and" if MIXINGS[mixing].skip else ""
        raise UserError(
            f"--depth-mixing {mixing}{instead} does not go with --skip-type {skip} --skip-norm {norm} "
            f"--norm-placement {placement} of the {side}: valid there are {', '.join(valid)}"
        )
    return mixing


def solver_of(args, side: str) -> str:
    """How the blocks of a side are applied; a decoder's once."""
    value = getattr(args, "encoder_solver", None) if side == "encoder" else None
    return _choice("--encoder-solver", "none" if value is None else value, SOLVERS)


def checked_solver(args, side: str, norm: str) -> str:
    """The same, checked against the side's other choices."""
    skip, placement, mixing = skip_type_of(args, side), placement_of(args, side, norm), mixing_of(args, side)
    solver, valid = solver_of(args, side), valid_solvers(skip, norm, placement, mixing)
    if solver not in valid:
        raise UserError(
            f"--encoder-solver {solver} does not go with --skip-type {skip} --skip-norm {norm} --norm-placement "
            f"{placement} --depth-mixing {mixing}: valid there are {', '.join(valid)}"
        )
    return solver


def value_of(args, side: str) -> str:
    """The value residual of a side, checked against its solver."""
    flag, value = given(args, f"{side}_value_residual", "value_residual")
    chosen, solver = _choice(flag, "none" if value is None else value, VALUES), solver_of(args, side)
    if chosen not in valid_values(solver):
        raise UserError(
            f"{flag} {chosen} does not go with --encoder-solver {solver}, which applies a block again"
        )
    return chosen


def source_of(args) -> str:
    """What attention to the encoder reads, checked against the encoder's other choices."""
    flag, value = given(args, "cross_attention_source")
    chosen = _choice(flag, "last" if value is None else value, SOURCES)
    if value is not None and "cross_attn" not in slots_of(args, "decoder"):
        raise UserError(f"{flag} has no meaning with --no-cross-attention")
    if chosen != "last":
        skip, mixing = skip_type_of(args, "encoder"), mixing_of(args, "encoder")
        if chosen not in valid_sources(skip, mixing):
            raise UserError(
                f"{flag} {chosen} does not go with --skip-type {skip} --depth-mixing {mixing} of the encoder: valid "
                f"there are {', '.join(valid_sources(skip, mixing))}"
            )
    return chosen


def norms_of_side(args, side: str) -> list[str]:
    """The norm of each of a side's sub-layers, in their order."""
    return [norm_of(args, side, slot) for slot in slots_of(args, side)]


def placement_of(args, side: str, norm: str) -> str:
    """Where the norm stands in a side: our flag, or fairseq's, or the skip type's own."""
    skip = skip_type_of(args, side)
    valid = valid_placements(skip, norm)
    flag, value = given(args, f"{side}_norm_placement", "norm_placement")
    before = bool(getattr(args, f"{side}_normalize_before", False))
    if value is None:
        flag, value = (f"--{side}-normalize-before", "pre") if before else (flag, valid[0])
    elif before and value != "pre":
        raise UserError(f"--{side}-normalize-before means pre and contradicts {flag} {value}")
    placement = _choice(flag, value, PLACEMENTS)
    if placement not in valid:
        raise UserError(
            f"{flag}{'' if flag.endswith('before') else f' {placement}'} does not go with --skip-type {skip} "
            f"--skip-norm {norm}: valid placements of the norm are {', '.join(valid)}"
        )
    return placement


def start_of(args, side: str) -> str:
    """The initialisation of a side."""
    flag, value = given(args, f"{side}_initialisation", "initialisation")
    return _choice(flag, "fairseq" if value is None else value, STARTS)


def embedding_of(args) -> str:
    """What word vectors are made of; one choice for both sides, which may share them."""
    value = getattr(args, "embedding_norm", None)
    return _choice("--embedding-norm", "none" if value is None else value, EMBEDDINGS)


def qk_norm_of(args, side: str) -> str:
    """The norm of queries, keys and values of a side, checked against its placement, whose own it is by default."""
    placement = placement_of(args, side, norm_of(args, side, "self_attn"))
    flag, value = given(args, f"{side}_qk_norm", "qk_norm")
    valid = valid_qk_norms(placement)
    chosen = _choice(flag, valid[0] if value is None else value, QK_NORMS)
    if chosen not in valid:
        raise UserError(
            f"{flag} {chosen} does not go with --norm-placement {placement} of the {side}: valid there are "
            f"{', '.join(valid)}"
        )
    return chosen
