"""Which form of a method is meant, where this plugin first had another than its authors' code.

``--connection-form authors``, the default, is the authors' code; ``first`` is what this plugin had before that flag
was there, and what a checkpoint without it holds:

=========  ==========================================  ===========================================
method     authors                                     first
=========  ==========================================  ===========================================
Sub-LN     no inner norm in cross-attention, weights   inner norm in every sub-layer, weights as
           times γ                                     fairseq draws them
ReZero     one α for all sub-layers of a layer         one α for each
ResiDual   LayerNorm at the end with eps 1e-7          with eps 1e-5
B2T        weights times layers^(−1/2)                 weights as fairseq draws them
PowerNorm  ψ² and the backward of the code, each       of the paper, no scaling
           head's features scaled before
=========  ==========================================  ===========================================
"""

from ..errors import UserError
from ..nn.init import deepnorm_constants, subln_gains

__all__ = ["FORMS", "form_of", "formed_norm_options", "formed_options", "formed_placement", "initialisation"]

FORMS = ("authors", "first")


def form_of(args) -> str:
    """The form that the flags ask for; those of a checkpoint that knows no such flag mean the first.

    Raises:
        UserError: for a name that is no form.
    """
    form = getattr(args, "connection_form", None) or "first"
    if form not in FORMS:
        raise UserError(f"--connection-form {form}: valid are {', '.join(FORMS)}")
    return form


def formed_placement(form: str, slot: str, placement: str) -> str:
    """The placement in one sub-layer: the authors' cross-attention is Pre-LN where the others are Sub-LN."""
    return "pre" if (form, slot, placement) == ("authors", "cross_attn", "sub") else placement


def formed_options(form: str, skip: str, norm: str) -> dict[str, object]:
    """Those fields of ``SkipOptions`` that follow from the form."""
    if form == "authors" and skip == "rezero":
        return {"shared": True}
    if form == "authors" and (skip, norm) == ("dual", "layer"):
        return {"end_eps": 1e-7}
    return {}


def formed_norm_options(form: str, norm: str, heads: int) -> tuple[tuple[str, int], ...]:
    """Those keyword arguments of a norm that follow from the form; ``heads`` are those of its side's attention."""
    return (("published", True), ("groups", heads)) if (form, norm) == ("authors", "power") else ()


def initialisation(
    form: str, side: str, skip: str, placement: str, depth: tuple[int, int]
) -> tuple[str, float]:
    """Which initialisation a side has, and its gain.

    Args:
        form: of ``FORMS``.
        side: encoder or decoder.
        skip: its skip type.
        placement: of its norms.
        depth: the numbers of encoder and decoder layers.
    """
    if skip == "deepnorm":
        return skip, deepnorm_constants(*depth).get(side, (1.0, 1.0))[1]
    if form == "authors" and placement == "sub":
        return placement, subln_gains(*depth).get(side, 1.0)
    if form == "authors" and skip == "b2t":
        layers = dict(zip(("encoder", "decoder"), depth, strict=True))[side]
        return skip, max(layers, 1) ** -0.5
    return "as drawn", 1.0
