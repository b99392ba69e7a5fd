"""What every placement is: where the norms of a connection stand. ``PLACEMENTS`` is their registry.

A placement is mixed into the class of the norm that it applies (see :mod:`..connection`), so ``self(v, mask)``
is that norm.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.chain import Link
from ..skip.base import Branch, Site, Skip
from ..variant import Registry, Variant

__all__ = ["PLACEMENTS", "Connection", "MakeNorm", "connection_class"]

PLACEMENTS: Registry["Connection"] = Registry("placement", "Placement: where norms stand")

MakeNorm = Callable[[int], nn.Module]


# mixed into norms, so that it is a module in the end
if TYPE_CHECKING:
    _Module = nn.Module
else:
    _Module = object


class Connection(Variant, _Module):
    """What a layer sees: ``enter(stream) -> F's input`` and ``leave(f_x, stream) -> stream``.

    f_x and F's input are (…, dim); the stream too, unless the skip rule makes it wider; the padding mask (…)
    is true at padding, or None. A placement is ``enter`` and ``join``, which is ``leave`` after the dropout.

    DropPath: in training F(x) of a whole sentence is dropped with the probability ``drop_path``, and what is left is
    divided by one minus it, just before F(x) meets x. The tensors are then (time, batch, dim).
    """

    drop_path: float

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and knows few types
        skip: Skip
        scale_gain: Callable[[float], None]

    ends_with_norm = True
    """Whether a stack of such connections needs a norm at its end, its last output being a plain sum."""

    is_one_kind = True
    """Whether that holds for all layers alike."""

    has_norm = True
    """Whether the connection is a norm of the chosen kind; else it has none."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled, it is its parts and what it holds: no module has its class under a name."""
        reduced = super().__reduce_ex__(protocol)
        parts = vars(type(self)).get("parts")
        return reduced if parts is None else (_empty, parts, *reduced[2:])

    @classmethod
    def at(cls, site: Site, *args: Any, **options: Any) -> type["Connection"]:
        """The placement in one sub-layer, where it is not the same in all; ``options`` are those that it declares."""
        return cls

    @classmethod
    def refuses(cls, norm: type[nn.Module], *args: Any, **options: Any) -> str:
        """Why a norm does not go with these options, in words; nothing if it does."""
        return ""

    def enter(self, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        """F's input, (…, dim)."""
        raise NotImplementedError

    def join(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        """The stream after the sub-layer."""
        raise NotImplementedError

    @classmethod
    def initialise(cls, branch: Branch, site: Site) -> None:
        """Change the first weights of F, drawn as fairseq does; most placements leave them."""

    def settle(self, site: Site, *args: Any, **options: Any) -> None:
        """Take what follows from the place in the model and from the options; the norm is as it was made."""

    def add_norms(self, make_norm: Callable[[], nn.Module]) -> None:
        """Add the norms that the placement needs besides the one that it is."""

    def leave(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        """``drop`` is the probability with which an element of F(x) is dropped."""
        return self.leave_in_steps(f_x, stream, padding_mask, drop)

    def leave_in_steps(
        self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None, drop: float = 0.0
    ) -> Tensor:
        """:meth:`leave`, one operation after another."""
        return self.join(self.drop_sentences(F.dropout(f_x, drop)), stream, padding_mask)

    def chain(self) -> Optional[list[Link]]:
        """What :meth:`leave` computes after the dropout, from F(x) to y, if it is nothing but a chain."""
        return None

    def drop_sentences(self, f_x: Tensor) -> Tensor:
        """What DropPath leaves of the branch, (time, batch, dim)."""
        if not self.training or self.drop_path == 0.0:
            return f_x
        keep = torch.empty(f_x.size(-2), 1, dtype=f_x.dtype, device=f_x.device).bernoulli_(1 - self.drop_path)
        return f_x * (keep / (1 - self.drop_path))

    @staticmethod
    def connect_projection(linear: nn.Linear, make_norm: MakeNorm) -> nn.Linear:
        """F's last projection as the placement wants it."""
        return linear


_MADE: dict[tuple[type, ...], type[Connection]] = {}


def connection_class(*parts: type[nn.Module]) -> type[Connection]:
    """The class of a connection: a norm, the last part, with a placement mixed in."""
    if parts not in _MADE:
        _MADE[parts] = type("".join(part.__name__ for part in parts), parts, {"parts": parts})
    return _MADE[parts]


def _empty(*parts: type[nn.Module]) -> nn.Module:
    """A connection that holds nothing yet, for what unpickles or copies it."""
    made = connection_class(*parts)
    return made.__new__(made)
