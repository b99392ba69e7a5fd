"""What every norm is. ``NORMS`` is their registry."""

from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor, nn

from ..kernels.chain import Norming
from ..variant import Registry, Variant

__all__ = ["NORMS", "Centred", "Norm", "Uncentred", "norms_of"]

NORMS: Registry["Norm"] = Registry("norm", "Norm N")


# mixed into modules
if TYPE_CHECKING:
    _Module = nn.Module
else:
    _Module = object


class Norm(Variant, _Module):
    """Mixed into a module that is made by ``(dim)``, some with further numbers.

    ``forward(v, padding_mask=None)`` makes (…, dim) of v (…, dim); the mask (…) is true at padding.

    A norm's ``kind`` says what it reads: *token*, one position at a time, so that it needs no mask; *batch*, statistics
    over all real tokens of a batch; *none*.
    """

    is_a_mean = True
    """Whether the mean of its state over several updates means anything."""

    def __init_subclass__(cls, *args: Any, **options: Any) -> None:
        super().__init_subclass__(*args, **options)
        if "forward" in vars(cls) and "norming" not in vars(cls):  # what its parent says is not true of it
            cls.norming = Norm.norming  # type: ignore[method-assign]

    keeps_gradients = False
    """Whether its state holds gradients, whose unit a loss scale would change."""

    @classmethod
    def arguments(cls, form: str, heads: int, **options: Any) -> dict[str, Any]:
        """The keyword arguments that it is made with.

        Args:
            form: authors or first, for a norm that has forms.
            heads: those of its side's attention.
            options: those that it declares.
        """
        return options

    @torch.no_grad()
    def scale_gain(self, factor: float) -> None:
        """Multiply the gain, of the norms that have one: their parameter ``weight``."""
        assert isinstance(self.weight, Tensor)
        self.weight.mul_(factor)

    def norming(self) -> Optional[Norming]:
        """The norm as kernels know it, with the parameters that it has now; None: they do not know it."""
        return None

    def centre(self, v: Tensor, padding_mask: Optional[Tensor]) -> Optional[Tensor]:
        """What it takes away before it scales, ``N(v) = factor ⊙ (v − centre) + bias``; None: it is no such thing.

        The factor counts as a constant, AdaNorm's bracket too. PowerNorm, once warm, is read after the batch has moved
        its running mean.
        """
        return None


class Centred(Norm):
    """A norm that takes the mean over the features away."""

    def centre(self, v: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
        return v.mean(-1, keepdim=True)


class Uncentred(Norm):
    """A norm that takes nothing away."""

    def centre(self, v: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
        return v.new_zeros(())


def norms_of(kinds: tuple[str, ...]) -> list[str]:
    """The norms of some kinds; LayerNorm, where it is among them, first."""
    names = [name for name in NORMS if NORMS[name].declaration.kind in kinds]
    return sorted(names, key=lambda name: name != "layer")
