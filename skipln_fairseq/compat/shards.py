"""A model of which each process holds a part, by torch's ``fully_shard``; see :mod:`.sharding`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DeviceMesh, DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from skipln_fairseq.compat.bfloat16 import MASTERS

__all__ = ["ShardedModel", "clip", "parts_of_state", "whole"]


class ShardedModel(nn.Module):
    """Shards a model's parameters, each by its first dimension, and is called as the model is.

    The layers that fairseq would have wrapped are put together one at a time, for their forward and their backward;
    the rest of the model stays together from its forward to its backward. Gradients are means over the processes,
    taken in float32. Parameters without a dimension are no larger than their shards would be: they stay whole.

    Args:
        model: on its device, with the same parameters in all processes. It is changed.
        group: the processes.
        gathers_again: drop a layer's other parts after its forward.
    """

    def __init__(self, model: nn.Module, group: distributed.ProcessGroup, gathers_again: bool = True):
        super().__init__()
        self.process_group = group
        first = next(model.parameters())
        summed_in = torch.promote_types(first.dtype, torch.float32)
        shard = partial(
            fully_shard,
            mesh=DeviceMesh.from_group(group, first.device.type),
            mp_policy=MixedPrecisionPolicy(reduce_dtype=summed_in),
            ignored_params={one for one in model.parameters() if one.dim() == 0},
        )
        self.pieces = 1
        for self.pieces, layer in enumerate(_large_layers(model), 2):
            shard(layer, reshard_after_forward=gathers_again)
        self.module = shard(model)
        for module in model.modules():
            module.register_load_state_dict_pre_hook(_take_parts)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The model's, with this process's parts."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Take this process's parts of a whole state."""
        return self.module.load_state_dict(*args, **kwargs)

    def holds(self) -> str:
        """How much of the model is in this process, in words."""
        own = sum(_own(one).numel() for one in self.parameters())
        total = sum(one.numel() for one in self.parameters())
        return f"{own:,} of {total:,} parameters are in this process; put together in {self.pieces} pieces"

    def all_reduce_grads(self) -> None:
        """What the backward has not done: see :meth:`average_wholes`."""
        self.average_wholes(self.parameters())

    def average_wholes(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of those that are no parts by their means over the processes; none counts as 0."""
        for parameter in parameters:
            if parameter.requires_grad and not isinstance(parameter, DTensor):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad, group=self.process_group)
                parameter.grad.div_(self.process_group.size())


def _large_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that are put together one at a time.

    As in fairseq they are those of ``--min-params-to-wrap`` parameters, or all with ``--checkpoint-activations``. A
    layer that shares a parameter with another one, as ``--encoder-solver`` lets them, stays with the rest of the model.
    """
    stacks = [
        one
        for one in model.modules()
        if hasattr(one, "layers") and hasattr(getattr(one, "cfg", None), "min_params_to_wrap")
    ]
    layers = [(stack.cfg, layer) for stack in stacks for layer in stack.layers]
    uses = Counter(one for _, layer in layers for one in layer.parameters())
    for config, layer in layers:
        least = 0 if config.checkpoint_activations else config.min_params_to_wrap
        sizes = [one.numel() for one in layer.parameters()]
        shares = any(uses[one] > 1 and one.dim() for one in layer.parameters())
        if sum(sizes) >= least and not shares:
            yield layer


def _take_parts(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        if prefix + name in state_dict:
            state_dict[prefix + name] = _part_like(state_dict[prefix + name], parameter)


def _part_like(value: Any, like: Tensor) -> Any:
    """This process's part of a whole tensor, if *like* is a part, or of all tensors of its shape in a container."""
    if not isinstance(like, DTensor):
        return value

    def take(one: Tensor) -> Tensor:
        if isinstance(one, DTensor) or one.shape != like.shape:
            return one
        one = one.to(like.device_mesh.device_type)
        return distribute_tensor(one, like.device_mesh, like.placements, src_data_rank=None)

    return tree_map_only(Tensor, take, value)


def parts_of_state(state: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    """This process's parts of an optimizer's whole state, and of bfloat16's masters."""
    found = {**state, "state": {i: _part_like(one, parameters[i]) for i, one in state["state"].items()}}
    if MASTERS in state:
        found[MASTERS] = list(map(_part_like, state[MASTERS], parameters))
    return found


def whole(state: Any) -> Any:
    """The same with whole tensors on the CPU in the group's first process, and without tensors in the others.

    All processes have to call it.
    """

    def gather(tensor: Tensor) -> Tensor | None:
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        return full.cpu() if distributed.get_rank() == 0 else None

    return tree_map_only(Tensor, gather, state)


def clip(gradients: list[Tensor], most: float) -> Tensor:
    """The norm of gradients of which some are parts, after which they are scaled down to a norm of *most* (0: any)."""
    mesh = next(one.device_mesh for one in gradients if isinstance(one, DTensor))
    parts = _square(one.to_local() for one in gradients if isinstance(one, DTensor))
    distributed.all_reduce(parts, group=mesh.get_group())
    norm = (parts + _square(one for one in gradients if not isinstance(one, DTensor))).sqrt()
    if most > 0:
        factor = (most / (norm + 1e-6)).clamp(max=1)
        for one in gradients:
            one.mul_(factor)
    return norm


def _own(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _square(gradients: Iterable[Tensor]) -> Tensor | int:
    """The sum of the squares, taken at least in float32."""
    norms = [
        torch.linalg.vector_norm(one, dtype=torch.promote_types(one.dtype, torch.float32))
        for one in gradients
    ]
    return torch.stack(norms).square().sum() if norms else 0
