"""Adversarial images within an L∞ ball: projected gradient descent, with or without momentum.

    g ← μ g + ∇/mean|∇|        (μ = 0: g = ∇)
    x ← clip(x + α sign(g)),    to |x − x₀| ≤ ε and 0 ≤ x ≤ 1

Sources: Madry et al. 2018, arXiv:1706.06083; Dong et al. 2018, arXiv:1710.06081 (momentum).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.errors import UserError

__all__ = ["Budget", "craft"]


@dataclass(frozen=True)
class Budget:
    """How far and how an image may be changed, in pixels from 0 to 1.

    Args:
        epsilon: of any pixel, at most.
        step: of one step.
        steps: how many.
        momentum: μ.

    Raises:
        UserError: for a number out of its range.
    """

    epsilon: float
    step: float
    steps: int
    momentum: float = 0.0

    def __post_init__(self):
        for name, holds, valid in (
            ("epsilon", 0 < self.epsilon <= 1, "above 0 and at most 1 (of the pixels' range)"),
            ("step", 0 < self.step <= 1, "above 0 and at most 1 (of the pixels' range)"),
            ("steps", self.steps >= 1, "a whole number of at least 1"),
            ("momentum", 0 <= self.momentum < float("inf"), "0 or more"),
        ):
            if not holds:
                raise UserError(f"--{name} {getattr(self, name)}: valid is {valid}")


def craft(logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, budget: Budget) -> Tensor:
    """Images that raise the model's loss.

    Args:
        logits: of images (N, C, H, W) with pixels from 0 to 1.
        images: to begin with, without a random start.
        labels: (N), the right classes.
        budget: of the change.

    Returns:
        as images, within the ball and the range of pixels
    """
    low, high = (images - budget.epsilon).clamp(min=0), (images + budget.epsilon).clamp(max=1)
    x, memory = images.clone(), torch.zeros_like(images)
    for _ in range(budget.steps):
        x.requires_grad_()
        loss = F.cross_entropy(logits(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        size = gradient.abs().mean((1, 2, 3), keepdim=True)
        memory = budget.momentum * memory + gradient / size.clamp(min=torch.finfo(gradient.dtype).tiny)
        x = (x.detach() + budget.step * memory.sign()).clamp(low, high)
    return x
