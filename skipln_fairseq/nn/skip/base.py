"""What every skip rule is, and what it is told when it is built. ``SKIPS`` is their registry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from torch import Tensor, nn

from ..kernels.chain import Link
from ..variant import Registry, Variant

__all__ = [
    "ANYWHERE",
    "NONE",
    "NORMED",
    "SKIPS",
    "TOKEN",
    "Branch",
    "Coefficients",
    "Link",
    "Site",
    "Skip",
]

SKIPS: Registry["Skip"] = Registry("skip", "Skip rule: how F(x) meets x")

# Kinds of norms, for ``goes_with``.
TOKEN = ("token",)
NORMED = ("token", "batch")
NONE = ("none",)

# Sub-LN's inner norm stands inside F, where nothing knows the padding: no norm over the batch there.
ANYWHERE = (
    (NORMED, ("post", "pre", "res-post", "sandwich", "mix", "lns", "hybrid", "hybrid-star")),
    (TOKEN, ("sub",)),
    (NONE, ("post",)),
)

Coefficients = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Site:
    """Where in the model a sub-layer stands.

    Attributes:
        dim: the feature dimension.
        make_norm: makes a further norm of the connection's kind, with further keyword arguments for it.
        side: encoder or decoder.
        slot: self_attn, cross_attn or ffn.
        index: of the sub-layer in its layer, from 0.
        last: whether it is the last one of its layer.
        size: how many sub-layers its layer has.
        layer: of its layer in its side, from 0, as the model was made: layers that are taken out change no number.
        depth: how many layers encoder and decoder have, as the model was made; 0 for a side that is not there.
        first: the skip rule of the layer's first sub-layer, None while that is built.
        norm_follows: whether the norm stands after the sum.
        form: authors or first: whose form of a variant it is, where this plugin first had another than its authors.
    """

    dim: int
    make_norm: Callable[..., nn.Module] = nn.Identity
    side: str = "encoder"
    slot: str = "self_attn"
    index: int = 0
    last: bool = False
    size: int = 1
    layer: int = 0
    depth: tuple[int, int] = (1, 1)
    first: "Optional[Skip]" = None
    norm_follows: bool = False
    form: str = "authors"

    @property
    def number(self) -> int:
        """Of the sub-layer in its side, from 0."""
        return self.layer * self.size + self.index


@dataclass(frozen=True)
class Branch:
    """The linear maps of one sub-layer F, for initialisations.

    Attributes:
        scores: attention's projections to queries and keys; none of a feed-forward.
        others: attention's projections to values and of its output, or the feed-forward's two.
    """

    scores: tuple[nn.Linear, ...]
    others: tuple[nn.Linear, ...]


class Skip(Variant, nn.Module):
    """A skip rule.

    What walks from sub-layer to sub-layer is a *stream*: for most rules x itself, (…, dim); a rule that
    remembers more makes it wider, in the last dimension. The first layer of a stack gets x alone.

    ``forward(f_x, stream, padding_mask) -> sum``: what the sub-layer's last norm (if it stands after the sum)
    takes; f_x and the sum are (…, dim), the mask (…) is true at padding, or None. A rule that goes with no norm after
    the sum may make the whole stream there.
    """

    is_wide = False
    """Whether the stream is wider than x anywhere."""

    merges = False
    """Whether :meth:`build_end` is needed, since the stream is wide after the last layer too."""

    measures = False
    """Whether it measures in a pass that applies each F once."""

    is_a_mean = True
    """Whether the mean of its state over several updates means anything."""

    @classmethod
    def build(cls, site: Site, *args: Any, **options: Any) -> "Skip":
        """The rule for one sub-layer; ``options`` are those that it declares, by name."""
        return cls(**options)

    @classmethod
    def build_end(
        cls, dim: int, make_norm: Callable[..., nn.Module], form: str, *args: Any, **options: Any
    ) -> Optional[nn.Module]:
        """What makes x of the stream after the last layer; None: the stream is x by then.

        It has to take x alone too, which is what comes when layerdrop drops every layer. Its norm, if it has one, is
        its attribute ``norm``.
        """
        return None

    @classmethod
    def refusal(cls, dim: int, *args: Any, **options: Any) -> Optional[str]:
        """Why it cannot be built with these options for x of that width, in words; None: it can.

        Asked of the rule of each layer.
        """
        return None

    @classmethod
    def initialise(cls, branch: Branch, site: Site) -> None:
        """Change the first weights of F, drawn as fairseq does; most rules leave them."""

    def read(self, stream: Tensor) -> Tensor:
        """The sub-layer's input x, (…, dim)."""
        return stream

    def write(self, y: Tensor, f_x: Tensor, stream: Tensor) -> Tensor:
        """The stream after the sub-layer, whose output is y."""
        return y

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        raise NotImplementedError

    def chain(self) -> Optional[list[Link]]:
        """The sum as a chain that begins with F(x), if it is nothing else: what a kernel can compute in one piece.

        Its last link has no norm: a placement may put one there, or another link before the first.
        """
        return None

    def coefficients(self, f_x: Tensor, x: Tensor, padding_mask: Optional[Tensor]) -> Optional[Coefficients]:
        """a and b of ``a ⊙ x + b ⊙ F(x) + const``, which the sum is once statistics and gates count as constants.

        Two tensors that broadcast to (…, dim), or None where the sum is nothing of that kind.
        """
        return x.new_ones(()), x.new_ones(())
