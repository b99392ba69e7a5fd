"""A connection around any F, for models in plain PyTorch."""

from collections.abc import Callable
from typing import Any, Optional, Union

from torch import Tensor, nn

from .choice import ChoiceError, choose
from .connection import ConnectionConfig, build_connection, build_end
from .place import Standing, is_whole, place
from .placement import PLACEMENTS, Connection
from .skip import SKIPS, Branch, Site
from .skip.scheduled import ScheduledBranch

__all__ = ["Residual", "set_num_updates"]

BRANCH = (
    "a Branch of F's linear maps (of queries and keys; all others), whose first weights are part of the method, "
    "or Branch((), ()) if you set them"
)


class Residual(nn.Module):
    """``y = block(x, *args, padding_mask=None)``: F with its skip connection, its norms and its dropout.

    With the defaults it is Post-LN, ``LN(x + dropout(F(x)))``. The choices are those of the flags, checked by the same
    table, and their options are keyword arguments::

        block = Residual(feed_forward, 512, skip="recursive", order=2, dropout=0.1)
        block = Residual(attention, 512, norm="rms", placement="pre")
        y = block(x, memory, padding_mask=mask)    # F gets what it reads and ``memory``

    x and what F makes are (…, dim). Where the skip carries more than x (``hyper``, ``dual``, …) y is wider; the next
    block takes it as it is. What :meth:`make_end` gives stands after the last block of a stack. Only norms over the
    batch read the padding mask, (…), true at padding.

    Some methods need to know where the block stands. They say so if they are not told.

    Args:
        function: F, a module or any callable that makes one tensor.
        dim: the feature dimension.
        skip: the skip type, see :func:`.choose`.
        norm: the norm, see there.
        placement: where norms stand, see there.
        heads: attention's heads, see there.
        **options: the options of the three choices, see there.
        dropout: the probability with which an element of F(x) is dropped in training.
        branch: F's linear maps, for methods that set their first weights or put a norm before the last of them;
            ``Branch((), ())`` leaves all that to you.
        layer: the number of the layer, see :mod:`.place`.
        depth: the layers of the model, see there.
        index: the number of the block in its layer, see there.
        size: the blocks of a layer, see there.
        side: encoder or decoder.
        first: the first block of the same layer, for methods whose blocks share a parameter within a layer.

    Raises:
        ChoiceError: a ``ValueError`` of one line, which says what is valid.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        dim: int,
        skip: str = "plain",
        norm: Optional[str] = None,
        placement: Optional[str] = None,
        *,
        dropout: float = 0.0,
        heads: int = 1,
        branch: Optional[Branch] = None,
        layer: Optional[int] = None,
        depth: Union[int, tuple[int, int], None] = None,
        index: Optional[int] = None,
        size: Optional[int] = None,
        side: str = "encoder",
        first: Optional["Residual"] = None,
        **options: Any,
    ):
        super().__init__()
        _check(function, dim, dropout, heads)
        _check_branch(branch)
        config = choose(skip, norm, placement, heads=heads, **options)
        _check_alone(dim, config)
        _check_first(first, dim, skip)
        told = place(side, layer, depth, index, size)
        standing = Standing(told)
        self.function = function
        self.dim = dim
        self.dropout = float(dropout)
        self.config: ConnectionConfig = config
        self.told = told
        self.connection: Connection = build_connection(
            dim, config, standing.site, first=None if first is None else first.connection, **told
        )
        if config.has_start():
            site = standing.site(dim, form=config.form, **told)
            _start(Branch((), ()), config, site)  # only to learn what of the place it reads
            if branch is None:
                standing.missing["branch"] = BRANCH
        standing.check(config)
        if branch is not None and config.has_start():
            _start(branch, config, site)
        _connect_projection(branch, config, self.connection)

    def forward(self, x: Tensor, *args: Any, padding_mask: Optional[Tensor] = None, **kwargs: Any) -> Tensor:
        """The connection around ``F(…, *args, **kwargs)``.

        Raises:
            TypeError: where F makes anything but one tensor.
        """
        f_x = self.function(self.connection.enter(x, padding_mask), *args, **kwargs)
        if not isinstance(f_x, Tensor):
            raise TypeError(f"F has to make one tensor, not {type(f_x).__name__}: wrap {self.function}")
        return self.connection.leave(f_x, x, padding_mask, self.drop_rate())

    def drop_rate(self) -> float:
        """The probability with which an element of F(x) is dropped, now."""
        return self.dropout if self.training else 0.0

    def make_end(self) -> nn.Module:
        """What stands after the last block of a stack, which is this one: the norm of Pre-LN, the sum of streams.

        It makes x (…, dim) of what the block makes; where nothing is to do it is the identity.
        """
        end = build_end(self.dim, self.config, **self.told)
        return nn.Identity() if end is None else end

    def extra_repr(self) -> str:
        """The choices."""
        config = self.config
        return f"skip={config.skip}, norm={config.norm}, placement={config.placement}, dropout={self.dropout}"

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles: it knows no ``*args``, so F's own parameters are counted."""
        from .scriptable import scriptable

        return scriptable(self)


def set_num_updates(model: nn.Module, updates: int) -> None:
    """Tell all blocks of a model how many updates were made, which BranchNorm and ProRes follow.

    To be called before each step of training; else their branches stay out of the sum.
    """
    for module in model.modules():
        if isinstance(module, ScheduledBranch):
            module.set_num_updates(updates)


def _check(function: Any, dim: Any, dropout: Any, heads: Any) -> None:
    if not callable(function):
        raise ChoiceError(f"function={function!r}: valid is a module or another callable")
    if not is_whole(dim, 1):
        raise ChoiceError(f"dim={dim!r}: valid is a whole number of at least 1")
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ChoiceError(f"dropout={dropout!r}: valid is a probability from 0, below 1")
    if not is_whole(heads, 1) or dim % heads:
        raise ChoiceError(f"heads={heads!r}: valid is what divides dim={dim}")


def _check_first(first: Any, dim: int, skip: str) -> None:
    if first is None:
        return
    if not isinstance(first, Residual):
        raise ChoiceError(f"first= is a {type(first).__name__}: valid is a block with skip {skip!r}")
    if first.config.skip != skip:
        raise ChoiceError(f"first= has skip {first.config.skip!r}: valid is a block with skip {skip!r}")
    if first.dim != dim:
        raise ChoiceError(f"first= has dim {first.dim}: valid is a block with dim {dim}")


def _check_branch(branch: Any) -> None:
    maps = () if branch is None else (branch.scores, branch.others) if isinstance(branch, Branch) else (None,)
    for some in maps:
        if not isinstance(some, (tuple, list)) or not all(isinstance(one, nn.Linear) for one in some):
            raise ChoiceError(
                "branch= is of no use so: valid is Branch(scores=(…), others=(…)), two tuples of F's nn.Linear: "
                "those of queries and keys, and all others, the last projection last"
            )


def _check_alone(dim: int, config: ConnectionConfig) -> None:
    """Refuse what a block cannot be by itself."""
    rule = SKIPS[config.skip]
    if rule.measures:
        raise ChoiceError(
            f"skip {config.skip!r} measures a whole model in its first step, which a block cannot: "
            f"valid are {', '.join(skip for skip in SKIPS if not SKIPS[skip].measures)}"
        )
    if PLACEMENTS[config.placement].declaration.qk_norms:
        alone = [name for name in PLACEMENTS if not PLACEMENTS[name].declaration.qk_norms]
        raise ChoiceError(
            f"placement {config.placement!r} has norms inside attention too, which a block does not reach: "
            f"valid are {', '.join(alone)}"
        )
    refusal = rule.refusal(dim, **dict(config.options))
    if refusal:
        raise ChoiceError(f"skip {config.skip!r}: {refusal}")


def _start(branch: Branch, config: ConnectionConfig, site: Site) -> None:
    """Give F the first weights that are part of the method."""
    config.placed(site).initialise(branch, site)
    SKIPS[config.skip].initialise(branch, site)


def _connect_projection(branch: Optional[Branch], config: ConnectionConfig, connection: Connection) -> None:
    """Let F's last projection be what the placement wants."""
    placement = PLACEMENTS[config.placement]
    if branch is None or not branch.others or placement.connect_projection is Connection.connect_projection:
        return
    last = branch.others[-1]
    if type(last) is not nn.Linear:
        raise ChoiceError(
            f"placement {config.placement!r} puts a norm before F's last projection: valid is a plain nn.Linear there, "
            f"not {type(last).__name__}, which nn.MultiheadAttention reads and never calls"
        )
    connection.connect_projection(last, config.make_norm)
