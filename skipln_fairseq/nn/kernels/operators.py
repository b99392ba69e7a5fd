"""Operators of torch's dispatcher: what traces a model (``torch.compile``, ``torch.export``, FakeTensor) sees one call
where a kernel runs.

``torch.library.custom_op`` does the same in one decorator, but takes some 80 μs for a forward and backward besides the
kernel's own time; this takes some 12 μs.
"""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["below_autograd", "define", "differentiate"]

NAMESPACE = "skipln"
TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
_library = torch.library.Library(NAMESPACE, "FRAGMENT")

below_autograd = torch._C._AutoDispatchBelowAutograd
"""A context in which an operator's own computation is meant, as autograd's part of it calls it."""


def define(schema: str, compute: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """A new operator.

    Args:
        schema: its name, arguments and results, in torch's notation.
        compute: computes it, on every device and below autograd.
        fake: makes results of the same sizes and types without computing them.
    """
    _library.define(schema, tags=TAGS)
    name = schema.partition("(")[0]
    _library.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def differentiate(operator: Any, call: Callable[..., Any]) -> None:
    """Let an operator be called through an ``autograd.Function``, in whose forward :data:`below_autograd` stands."""
    _library.impl(operator._schema.name.partition("::")[2], call, "Autograd")
