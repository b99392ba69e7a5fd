"""The Skip Gradient Method's decay: gradients through residual branches are scaled, those through shortcuts are not.

    F′ = stopgrad(F) + γ (F − stopgrad(F))

in the place of F at every residual block, before the connection, which stays what it is. The forward is that of the
model up to rounding; the gradient through each branch is γ times what it was, so that for identity shortcuts
∂L/∂x₀ = ∂L/∂x_L ∏ (1 + γ ∂F_l/∂x_{l−1}). The authors' code leaves out the first block of each stage of a ResNet, and so
is it here unless all are asked for.

Source: Wu, Wang, Xia, Bailey, Ma 2020, "Skip Connections Matter", arXiv:2002.05990.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["decayed_branches", "residual_blocks"]


def residual_blocks(model: nn.Module, every: bool = True) -> list[nn.Module]:
    """All that have a ``branch(x)``, which is F; unless ``every``, without those whose ``begins_stage`` is true."""
    blocks = [module for module in model.modules() if callable(getattr(module, "branch", None))]
    return [block for block in blocks if every or not getattr(block, "begins_stage", False)]


def _decayed(branch, gamma: float):
    def decayed(x: Tensor) -> Tensor:
        f_x = branch(x)
        constant = f_x.detach()
        return constant + gamma * (f_x - constant)

    return decayed


@contextmanager
def decayed_branches(model: nn.Module, gamma: float, every: bool = False) -> Iterator[None]:
    """Within, gradients through the model's residual branches are ``gamma`` times what they are; 1 changes nothing.

    Args:
        model: whose forward is called within.
        gamma: γ.
        every: whether the first block of each stage is decayed as well.
    """
    blocks = residual_blocks(model, every) if gamma != 1 else []
    for block in blocks:
        block.branch = _decayed(block.branch, gamma)
    try:
        yield
    finally:
        for block in blocks:
            del block.branch  # this instance's, before its class's
