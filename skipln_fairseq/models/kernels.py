"""How a model computes what it is: ``--kernels``.

The choice is no part of the model: parameters, checkpoints and flags' meaning are the same, so a run may be resumed
and a checkpoint decoded with the other one. The fast forms are differentiated once and backward only: second
derivatives and ``torch.func`` need the reference.
"""

from typing import Any

from fairseq.modules import MultiheadAttention
from torch import nn

from ..common.errors import UserError
from ..nn import Connection, fuse
from .fast_attention import FastAttention

__all__ = ["KERNELS", "add_kernels_arg", "with_kernels"]


def _make_fast(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Connection):
            fuse(module)
        elif type(module) is MultiheadAttention:
            FastAttention.take(module)


KERNELS = {"fast": _make_fast, "reference": lambda model: None}


def add_kernels_arg(parser) -> None:
    """Add ``--kernels``."""
    parser.add_argument(
        "--kernels",
        metavar="FORM",
        help="fast (default): fused forms, within rounding of the reference; reference: fairseq's operations",
    )


def with_kernels(model: nn.Module, args: Any) -> nn.Module:
    """The model, told how to compute.

    Raises:
        UserError: for an unknown form.
    """
    form = getattr(args, "kernels", None) or "fast"
    if form not in KERNELS:
        raise UserError(f"--kernels {form}: valid are {', '.join(KERNELS)}")
    KERNELS[form](model)
    model.kernels = form
    return model
