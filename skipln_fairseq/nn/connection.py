"""The wiring around one sub-layer F: placement × skip × norm, in two calls.

    h = connection.enter(x)        # what F reads
    y = connection.leave(F(h), x)  # what the next sub-layer reads

A connection *is* the norm that it applies last and so carries that norm's parameters itself:
a layer keeps it under fairseq's name for the norm (``self_attn_layer_norm``, …), and the
parameters of a stock checkpoint find their place (``self_attn_layer_norm.weight``). What else it
needs hangs below as ``skip``. Its class is therefore put together from a placement and a norm.
"""

from dataclasses import dataclass, field
from functools import cache

from torch import Tensor, nn

from .norm import NORMS
from .skip import SKIPS, SkipOptions

__all__ = ["PLACEMENTS", "Connection", "ConnectionConfig", "Post", "Pre", "build_connection"]


class Connection:
    """What a layer sees: ``enter(x) -> F's input`` and ``leave(f_x, x) -> y``, all (…, dim)."""


class Post(Connection):
    """``y = N(skip(F(x), x))``: the norm stands after the sum (Vaswani et al. 2017)."""

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, f_x: Tensor, x: Tensor) -> Tensor:
        return self(self.skip(f_x, x))


class Pre(Connection):
    """``y = skip(F(N(x)), x)``: the norm stands before F (Xiong et al. 2020, arXiv:2002.04745)."""

    def enter(self, x: Tensor) -> Tensor:
        return self(x)

    def leave(self, f_x: Tensor, x: Tensor) -> Tensor:
        return self.skip(f_x, x)


PLACEMENTS: dict[str, type[Connection]] = {"post": Post, "pre": Pre}


@dataclass(frozen=True)
class ConnectionConfig:
    """One choice on each axis.

    Attributes:
        skip: a name in ``SKIPS``.
        norm: a name in ``NORMS``.
        placement: a name in ``PLACEMENTS``.
        options: the skip rule's numbers.
        share_norms: whether all norms of the connection have the same parameters. They stay
            separate modules, so what a norm keeps besides parameters is its own.
    """

    skip: str = "plain"
    norm: str = "layer"
    placement: str = "post"
    options: SkipOptions = field(default_factory=SkipOptions)
    share_norms: bool = False


@cache
def _connection_class(placement: type[Connection], norm: type[nn.Module]) -> type[nn.Module]:
    return type(f"{placement.__name__}{norm.__name__}", (placement, norm), {})


def build_connection(dim: int, config: ConnectionConfig) -> nn.Module:
    """Build the connection of one sub-layer.

    Args:
        dim: the feature dimension.
        config: the choices; whether they mean something together is for the caller to say.

    Returns:
        A module that is a :class:`Connection` and the norm named by ``config.norm``.

    Raises:
        KeyError: for a name that is in no registry.
    """
    norm = NORMS[config.norm]
    connection = _connection_class(PLACEMENTS[config.placement], norm)(dim)

    def make_norm() -> nn.Module:
        inner = norm(dim)
        if config.share_norms:
            for name, parameter in connection.named_parameters(recurse=False):
                setattr(inner, name, parameter)
        return inner

    connection.skip = SKIPS[config.skip](config.options, make_norm)
    return connection
