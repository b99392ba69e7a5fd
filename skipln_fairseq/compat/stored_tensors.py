"""The tensors in a checkpoint are what they seem, and the model that is built for them is no larger than they are.

Not trusted: a tensor's shape, which may claim more elements than the file holds, and the flags, which may ask for any
number of layers and for any width. ``checkpoints`` uses both.
"""

import contextlib
import math
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skipln_fairseq.common.errors import UserError

__all__ = ["Allowance", "check_tensors"]

MAKERS = tuple(f"aten::{kind}" for kind in ("empty", "zeros", "ones", "full", "rand", "new_"))


def check_tensors(state: dict[str, Any]) -> None:
    """Refuse a ``model`` that is no dictionary of numbers, and tensors that claim more than they hold.

    Raises:
        TypeError: for a ``model`` that is no dictionary.
        UserError: naming the tensor.
    """
    model = state.get("model")
    if not isinstance(model, dict):
        raise TypeError("it holds no parameters by name")
    for name, value in model.items():
        if not isinstance(name, str):
            raise UserError(f"{name!r:.80} in the model is a {type(name).__name__}, and no name")
        if not isinstance(value, Tensor):
            raise UserError(f"{name!r:.80} in the model is a {type(value).__name__}, and no tensor")
    for name, value in _tensors(state):
        if value.layout != torch.strided or value.device.type == "meta" or value.is_quantized:
            raise UserError(f"{name!r:.80} is no plain tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            shape = " × ".join(map(str, value.shape))
            raise UserError(f"{name!r:.80} is {shape}, of which the file holds a part only")
    for name, value in model.items():
        # fairseq's adaptive embedding and softmax leave the memory of this buffer unset: any number may be there
        used = name.rpartition(".")[2] != "_float_tensor"
        if used and value.is_floating_point() and value.numel() and value.amax().isnan():
            raise UserError(f"{name} holds NaN: the training that wrote it had diverged")


def _tensors(state: dict[str, Any]) -> Iterator[tuple[Any, Tensor]]:
    """Each tensor once, with the nearest name."""
    stack, seen = [("the checkpoint", state)], set()
    while stack:
        name, value = stack.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict | Namespace):
            seen.add(id(value))
            stack += (value if isinstance(value, dict) else vars(value)).items()
        elif isinstance(value, list | tuple | set):
            seen.add(id(value))
            stack += [(name, one) for one in value]


def _bytes(model: dict[str, Tensor]) -> int:
    """What the parameters take up; what several of them share counts once."""
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in model.values()
    }
    return sum(storages.values())


class Allowance(TorchDispatchMode):
    """While it is entered, no more and no larger tensors are made than a checkpoint's can account for.

    A model makes each of its parameters, and beside them a few things that no checkpoint holds: tables of positions,
    first values. Counted are the numbers in tensors that are made by size, before they are.

    Raises (as a model is built):
        UserError: when more than eight times the checkpoint's bytes and 2^26 are asked for, or more than ten tensors
            for each of its, and 10,000.
    """

    def __init__(self, model: dict[str, Tensor]):
        super().__init__()
        self.elements = 8 * _bytes(model) + 2**26
        self.tensors = 10 * len(model) + 10_000

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        size = _size_to_make(func, args)
        if size is not None:
            self.tensors -= 1
            self.elements -= size
            if min(self.tensors, self.elements) < 0:
                raise UserError("its flags describe a larger model than it holds")
        return func(*args, **(kwargs or {}))


def _size_to_make(func: Any, args: tuple) -> int | None:
    """How many elements an operation makes that is told a size, or of several tensors; None for any other."""
    name = func._schema.name
    if name == "aten::arange":
        return math.ceil(abs(args[0] if len(args) == 1 else args[1] - args[0]))
    if name.startswith(MAKERS):
        sizes = [one for one in args if isinstance(one, list | tuple)]
        return math.prod(sizes[0]) if sizes else None
    shapes = [one.shape for one in args if isinstance(one, Tensor)]
    with contextlib.suppress(RuntimeError):  # where they do not fit, the operation says so
        return math.prod(torch.broadcast_shapes(*shapes)) if len(shapes) > 1 else None
    return None
