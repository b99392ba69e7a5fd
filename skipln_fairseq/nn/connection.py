"""The wiring around one sub-layer F: placement × skip × norm, in two calls.

    h = connection.enter(x, padding_mask)        # what F reads
    y = connection.leave(F(h), x, padding_mask)  # what the next sub-layer reads

A connection *is* the norm that it applies last and so carries that norm's parameters itself:
a layer keeps it under fairseq's name for the norm (``self_attn_layer_norm``, …), and the
parameters of a stock checkpoint find their place (``self_attn_layer_norm.weight``). What else it
needs hangs below, the rule that forms the sum as ``skip``. Its class is therefore put together from a
placement and a norm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from torch import nn

from .mixing import MIXINGS, Mixing, Place
from .norm import NORMS
from .placement import PLACEMENTS, Connection, connection_class
from .skip import SKIPS, Branch, Site, Skip
from .solver import SOLVERS, Solver
from .start import Start
from .variant import Declaration

__all__ = [
    "ConnectionConfig",
    "build_connection",
    "build_end",
    "build_mixing",
    "build_solver",
    "initialise_branch",
]

Numbers = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class ConnectionConfig:
    """One choice on each axis. Nothing is checked here: :func:`.choose` makes what is checked.

    Attributes:
        skip: a name in ``SKIPS``.
        norm: a name in ``NORMS``.
        placement: a name in ``PLACEMENTS``.
        options: the skip rule's, as pairs of names and values.
        norm_options: the norm's keyword arguments, as such pairs.
        form: authors or first, see :class:`.Site`.
        placement_options: the placement's, as such pairs.
        mixing: a name in ``MIXINGS``.
        mixing_options: its own, as such pairs.
        solver: a name in ``SOLVERS``.
        solver_options: its own, as such pairs.
    """

    skip: str = "plain"
    norm: str = "layer"
    placement: str = "post"
    options: Numbers = ()
    norm_options: Numbers = ()
    form: str = "authors"
    placement_options: Numbers = ()
    mixing: str = "none"
    mixing_options: Numbers = ()
    solver: str = "none"
    solver_options: Numbers = ()

    def declarations(self) -> list[Declaration]:
        """What the choices declare."""
        axes = (
            (SKIPS, self.skip),
            (NORMS, self.norm),
            (PLACEMENTS, self.placement),
            (MIXINGS, self.mixing),
            (SOLVERS, self.solver),
        )
        return [registry[name].declaration for registry, name in axes]

    def has_start(self) -> bool:
        """Whether first weights are part of a choice."""
        placement, skip = PLACEMENTS[self.placement], SKIPS[self.skip]
        return any(
            next(one for one in chosen.__mro__ if "initialise" in vars(one)) is not base
            for chosen, base in ((placement, Connection), (skip, Skip))
        )

    def placed(self, site: Site) -> type[Connection]:
        """The placement in one sub-layer."""
        return PLACEMENTS[self.placement].at(site, **dict(self.placement_options))

    def make_norm(self, dim: int) -> nn.Module:
        """A norm of the chosen kind."""
        return NORMS[self.norm](dim, **dict(self.norm_options))

    def make_end_norm(self, dim: int) -> nn.Module:
        """A norm for where nothing knows the padding: a norm over the batch gives way to LayerNorm."""
        return NORMS["layer"](dim) if NORMS[self.norm].declaration.kind == "batch" else self.make_norm(dim)


def build_connection(
    dim: int, config: ConnectionConfig, make_site: Callable[..., Site] = Site, **where: Any
) -> Connection:
    """Build the connection of one sub-layer.

    Args:
        dim: the feature dimension.
        config: the choices; whether they mean something together is for the caller to say (:func:`.choose`).
        make_site: :class:`.Site`, or what refuses to make up the fields that it is not told.
        where: fields of :class:`.Site`; ``first`` is the connection of the layer's first sub-layer.

    Returns:
        A module that is a :class:`Connection` and the norm named by ``config.norm``, or none where the placement has
        none.

    Raises:
        KeyError: for a name that is in no registry.
    """
    first = where.pop("first", None)
    where |= {"form": config.form, "first": None if first is None else first.skip}
    site = make_site(dim, **where)
    placement = config.placed(site)
    norm, numbers = (config.norm, config.norm_options) if placement.has_norm else ("none", ())
    connection = connection_class(placement, NORMS[norm])(dim, **dict(numbers))
    connection.drop_path = 0.0
    connection.settle(site, **dict(config.placement_options))
    own = dict(connection.named_parameters(recurse=False))

    def make_norm(shared: bool = False) -> nn.Module:
        """One more norm; it may share the parameters of the connection's own, and keeps apart what else it has."""
        inner = config.make_norm(dim)
        if shared:
            for name, parameter in own.items():
                setattr(inner, name, parameter)
        return inner

    connection.add_norms(make_norm)
    site = make_site(dim, make_norm=make_norm, norm_follows=not placement.ends_with_norm, **where)
    skip, options = MIXINGS[config.mixing].skip, {}
    if skip is None:
        skip, options = SKIPS[config.skip], dict(config.options)
    connection.skip = skip.build(site, **options)
    return connection


def build_mixing(dim: int, config: ConnectionConfig, **where: Any) -> Mixing:
    """Build what stands before a sub-layer, or at the end of a stack, where depths are mixed.

    Args:
        dim: the feature dimension.
        config: the choices, of the stack's last sub-layer.
        where: fields of :class:`.Place`.
    """
    return MIXINGS[config.mixing].build(_place(dim, config, where), **dict(config.mixing_options))


def _place(dim: int, config: ConnectionConfig, where: dict[str, Any]) -> Place:
    normed = not PLACEMENTS[config.placement].ends_with_norm
    return Place(dim, config.make_end_norm, normed=normed, **where)


def build_solver(dim: int, config: ConnectionConfig, first: Optional[Solver], **where: Any) -> Solver:
    """Build what applies one block of an encoder; see :meth:`.Solver.build`, and :func:`build_mixing`."""
    return SOLVERS[config.solver].build(_place(dim, config, where), first, **dict(config.solver_options))


def initialise_branch(branch: Branch, config: ConnectionConfig, start: Start, **where: Any) -> None:
    """Give the linear maps of a fresh F their first weights.

    Args:
        branch: the maps, drawn as fairseq does.
        config: the connection's choices, which may want some of their own.
        start: the initialisation of the model.
        where: fields of :class:`.Site`.
    """
    site = Site(branch.others[0].in_features, form=config.form, **where)
    start.branch(branch, site)
    config.placed(site).initialise(branch, site)
    SKIPS[config.skip].initialise(branch, site)


def build_end(dim: int, config: ConnectionConfig, **where: Any) -> Optional[nn.Module]:
    """What stands at the end of a stack whose last sub-layer has this connection, or None.

    A skip rule that merges its streams does so without a norm too. The norm there is of the last sub-layer's kind, see
    :meth:`ConnectionConfig.make_end_norm`. ``where`` are the fields of that sub-layer's :class:`.Site`, as the
    model was made.
    """
    end = SKIPS[config.skip].build_end(
        dim, lambda: config.make_end_norm(dim), config.form, **dict(config.options)
    )
    normed = config.norm != "none" and config.placed(Site(dim, form=config.form, **where)).ends_with_norm
    return config.make_end_norm(dim) if end is None and normed else end
