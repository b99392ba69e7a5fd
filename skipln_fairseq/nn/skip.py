"""Skip rules: how a sub-layer's output F(x) meets its input x, before the sub-layer's last norm.

Every rule is a module ``forward(f_x, x) -> sum`` with shapes (…, dim), (…, dim) → (…, dim).
``SKIPS`` is the registry behind ``--skip-type``.

The equations are those of Liu, Ren, Zhang, Sun, Zou: "Rethinking Skip Connection with Layer
Normalization in Transformers and ResNets", COLING 2020, arXiv:2105.07205, as far as its abstract
and secondary sources give them (see "Fidelity" in the README).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["SKIPS", "ExpandedSkip", "PlainSkip", "RecursiveSkip", "SkipOptions"]


class PlainSkip(nn.Module):
    """``x + F(x)``: the connection of He et al. 2016, arXiv:1512.03385."""

    def forward(self, f_x: Tensor, x: Tensor) -> Tensor:
        return x + f_x


class ExpandedSkip(nn.Module):
    """``λx + F(x)`` with a fixed λ (xSkip): λ is a constant, neither learned nor stored.

    Args:
        scale: λ, any finite number.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, f_x: Tensor, x: Tensor) -> Tensor:
        return self.scale * x + f_x

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class RecursiveSkip(nn.Module):
    """The sum inside rSkip+LN's last norm: ``x + y_{K−1}``.

    With ``y_0 = F(x)`` and ``y_k = N_k(x + y_{k−1})`` this is the argument of N_K; the placement
    applies that last norm, as it does for every other rule, so order 1 is the plain skip. F is
    evaluated once whatever the order.

    Args:
        norms: N_1 … N_{K−1}, in this order; none for order 1.
    """

    def __init__(self, norms: Iterable[nn.Module]):
        super().__init__()
        self.norms = nn.ModuleList(norms)

    def forward(self, f_x: Tensor, x: Tensor) -> Tensor:
        y = f_x
        for norm in self.norms:
            y = norm(x + y)
        return x + y


@dataclass(frozen=True)
class SkipOptions:
    """The numbers a skip rule may need. Each rule reads its own and no other.

    Attributes:
        scale: λ of the expanded skip.
        order: K of the recursive skip, at least 1.
    """

    scale: float = 1.0
    order: int = 1


SKIPS: dict[str, Callable[[SkipOptions, Callable[[], nn.Module]], nn.Module]] = {
    "plain": lambda options, make_norm: PlainSkip(),
    "expanded": lambda options, make_norm: ExpandedSkip(options.scale),
    "recursive": lambda options, make_norm: RecursiveSkip(make_norm() for _ in range(options.order - 1)),
}
