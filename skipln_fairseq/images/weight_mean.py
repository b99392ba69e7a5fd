"""MimicNorm's weight mean: filters without a mean, after every change of the weights.

    W ← W − mean of W over a filter's inputs, for each output

No gradient flows through it. It is applied when a model is made, after every step of the optimiser and after a
checkpoint is loaded; to the optimiser's own copy of the weights where it has one, from which the model's are copied
again.

Source: Dai, Lin, et al. 2020, arXiv:2010.09278, and its authors' code.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RULES", "centre_", "centre_masters_"]

FAN_IN = 50
RULES: dict[str, Callable[[nn.Conv2d], bool]] = {
    "fan-in": lambda conv: conv.weight[0].numel() > FAN_IN,
    "ungrouped": lambda conv: conv.groups == 1,
}
"""Which convolutions have their means taken out: those with more than 50 inputs a filter, as for CIFAR, or all that are
not in groups, as for ImageNet."""


def _weights(model: nn.Module, rule: str) -> Iterator[nn.Parameter]:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and RULES[rule](module):
            yield module.weight


def _centre_(weight: Tensor) -> None:
    weight.sub_(weight.mean(tuple(range(1, weight.dim())), keepdim=True))


@torch.no_grad()
def centre_(model: nn.Module, rule: str, rounded: bool = False) -> None:
    """Take out the means of the model's own weights.

    Args:
        model: whose convolutions.
        rule: which of them, see :data:`RULES`.
        rounded: leave a filter alone whose mean may be the rounding of what has none, so that what is loaded is what
            was saved.
    """
    for weight in _weights(model, rule):
        if rounded:
            inputs = tuple(range(1, weight.dim()))
            whole = weight.to(torch.promote_types(weight.dtype, torch.float32))
            mean, size = whole.mean(inputs, keepdim=True), whole.abs().mean(inputs, keepdim=True)
            off = mean.abs() > torch.finfo(weight.dtype).eps * size
            weight.copy_(torch.where(off, whole - mean, whole))
        else:
            _centre_(weight)


@torch.no_grad()
def centre_masters_(optimizer: Any, model: nn.Module, rule: str) -> bool:
    """Take out the means of the copies that fairseq's half-precision optimiser keeps; whether it keeps any.

    The model's weights are theirs afterwards.
    """
    if getattr(optimizer, "fp32_params", None) is None:
        return False
    wanted = {id(weight) for weight in _weights(model, rule)}
    for parameter, master in _masters(optimizer):
        if id(parameter) in wanted:
            _centre_(master)
    optimizer._sync_fp32_params_to_fp16()
    return True


def _masters(optimizer: Any) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Each parameter and its copy, which is one of its own, or a part of one flat tensor on each device."""
    if not isinstance(optimizer.fp32_params, dict):
        for parameter, master in zip(optimizer.fp16_params, optimizer.fp32_params, strict=True):
            yield parameter, master.data
        return
    for device, flat in optimizer.fp32_params.items():
        here = [parameter for parameter in optimizer.fp16_params if parameter.device.index == device]
        for parameter, part in zip(here, flat.data.split([one.numel() for one in here]), strict=True):
            yield parameter, part.view_as(parameter)
