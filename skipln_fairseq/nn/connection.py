"""The wiring around one sub-layer F: placement × skip × norm, in two calls.

    h = connection.enter(x, padding_mask)        # what F reads
    y = connection.leave(F(h), x, padding_mask)  # what the next sub-layer reads

A connection *is* the norm that it applies last and so carries that norm's parameters itself:
a layer keeps it under fairseq's name for the norm (``self_attn_layer_norm``, …), and the
parameters of a stock checkpoint find their place (``self_attn_layer_norm.weight``). What else it
needs hangs below, the rule that forms the sum as ``skip``. Its class is therefore put together from a
placement and a norm.
"""

from dataclasses import dataclass, field
from typing import Optional

from torch import nn

from .norm import BATCH_NORMS, NORMS, LayerNorm
from .placement import PLACEMENTS, connection_class
from .skip import SKIPS, DualEnd, Site, SkipOptions

__all__ = ["ConnectionConfig", "build_connection", "build_end", "connect_projection"]


@dataclass(frozen=True)
class ConnectionConfig:
    """One choice on each axis.

    Attributes:
        skip: a name in ``SKIPS``.
        norm: a name in ``NORMS``.
        placement: a name in ``PLACEMENTS``.
        options: the skip rule's numbers.
        norm_options: the norm's numbers, as pairs of its keyword arguments and their values.
        share_norms: whether all norms of the connection have the same parameters. They stay
            separate modules, so what a norm keeps besides parameters is its own.
    """

    skip: str = "plain"
    norm: str = "layer"
    placement: str = "post"
    options: SkipOptions = field(default_factory=SkipOptions)
    norm_options: tuple[tuple[str, float], ...] = ()
    share_norms: bool = False

    def make_norm(self, dim: int, **more) -> nn.Module:
        """A norm of the chosen kind, with further keyword arguments."""
        return NORMS[self.norm](dim, **dict(self.norm_options), **more)


def build_connection(
    dim: int, config: ConnectionConfig, position: str = "first", first: Optional[nn.Module] = None
) -> nn.Module:
    """Build the connection of one sub-layer.

    Args:
        dim: the feature dimension.
        config: the choices; whether they mean something together is for the caller to say.
        position: of the sub-layer in its layer: first, middle or last.
        first: the connection of the layer's first sub-layer, for rules that share what they learn.

    Returns:
        A module that is a :class:`Connection` and the norm named by ``config.norm``.

    Raises:
        KeyError: for a name that is in no registry.
    """
    placement = PLACEMENTS[config.placement]
    connection = connection_class(placement, NORMS[config.norm])(dim, **dict(config.norm_options))
    own = dict(connection.named_parameters(recurse=False))

    def make_norm() -> nn.Module:
        inner = config.make_norm(dim)
        if config.share_norms:
            for name, parameter in own.items():
                setattr(inner, name, parameter)
        return inner

    connection.add_norms(make_norm)
    connection.skip = SKIPS[config.skip](
        config.options, Site(dim, make_norm, position, None if first is None else first.skip)
    )
    return connection


def connect_projection(linear: nn.Linear, config: ConnectionConfig) -> nn.Linear:
    """The last projection of a sub-layer F, with the norm that the placement may want before it."""
    return PLACEMENTS[config.placement].connect_projection(linear, config.make_norm)


def build_end(dim: int, config: ConnectionConfig) -> Optional[nn.Module]:
    """What stands at the end of a stack whose last sub-layer has this connection, or None.

    The norm there is of the last sub-layer's kind; a norm over the batch gives way to LayerNorm, since the end of
    the stack knows no padding.
    """
    if config.norm == "none":
        return None
    if config.skip == "dual":
        eps = config.options.end_eps
        return DualEnd(dim, config.make_norm(dim, **({} if eps is None else {"eps": eps})))
    norm = LayerNorm(dim) if config.norm in BATCH_NORMS else config.make_norm(dim)
    return norm if PLACEMENTS[config.placement].ends_with_norm else None
