"""Admin's measurement, in the first training step of a model and never again."""

import logging

import torch
from torch import Tensor, nn

from ..nn import AdminSkip
from ..nn.norm.workers import sum_over_workers

__all__ = ["ProfiledModel", "profile"]

logger = logging.getLogger(__name__)


def _variance(v: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The variance of all features of all real tokens, of all data-parallel workers together."""
    real = (v if padding_mask is None else v[~padding_mask]).double()
    count = sum_over_workers(real.new_tensor(real.numel()))
    mean = sum_over_workers(real.sum()) / count
    return sum_over_workers((real - mean).square().sum()) / count


@torch.no_grad()
def profile(model: nn.Module, *args, **kwargs) -> None:
    """Set ω of every Admin skip that has none yet from one pass over a batch.

    Stack by stack and in the order of the sub-layers, ω is 1 in the first and then
    ``√(Var(ω x) + Var F(x))`` of the sub-layer before. The pass is made in evaluation mode (no dropout, every layer),
    and changes nothing else. What has been measured stays, and is part of the checkpoint.

    Args:
        model: a model of this plugin.
        args, kwargs: what its forward takes.
    """
    ratios: dict[int, Tensor] = {}
    handles = []

    def measure(stack: nn.Module):
        def hook(skip: AdminSkip, inputs) -> None:
            f_x, x, padding_mask = inputs
            ratio = ratios.get(id(stack), torch.ones((), dtype=torch.float64, device=x.device))
            skip.profile.copy_(ratio)
            skip.profiled.fill_(True)
            ratios[id(stack)] = (
                _variance(ratio * x.double(), padding_mask) + _variance(f_x, padding_mask)
            ).sqrt()

        return hook

    for stack in model.children():
        for skip in stack.modules():
            if isinstance(skip, AdminSkip):
                handles.append(skip.register_forward_pre_hook(measure(stack)))
    training = model.training
    model.eval()
    try:
        model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    logger.info("Admin: measured ω of %d sub-layers", len(handles))


class ProfiledModel:
    """Mixed into a model: measures its Admin skips before the first training step.

    In ``__call__`` and not in ``forward``, so that TorchScript, which compiles the latter, never sees it.
    """

    def __call__(self, *args, **kwargs):
        if self.training and not self.__dict__.get("admin_is_measured", False):
            if any(isinstance(m, AdminSkip) and not m.profiled for m in self.modules()):
                profile(self, *args, **kwargs)
            self.__dict__["admin_is_measured"] = True  # asked once: the answer lies on the GPU
        return super().__call__(*args, **kwargs)
