"""The connections of ``nn`` on feature maps."""

from argparse import Namespace
from typing import Any

from torch import Tensor, nn

from ...common.errors import UserError
from ...nn import NORMS, SKIPS, ConnectionConfig, build_connection
from ...nn.variant import Option

__all__ = ["OVER", "SpatialConnection", "add_connection_args", "connection_config"]

OF_IMAGES = ("plain", "expanded", "recursive")
OVER = ("channels", "image")


class SpatialConnection(nn.Module):
    """A connection around a residual branch: ``forward(f_x, x) -> y``, all (N, C, H, W).

    What was a token in translation is a position here, with its channels as features (``over="channels"``), or a whole
    image with all its numbers (``over="image"``), as LayerNorm over channel, height and width takes it.

    Args:
        channels: C.
        size: H = W, which is needed over the image alone.
        config: skip and norm, placed after the sum.
        over: channels or image.
    """

    def __init__(self, channels: int, size: int, config: ConnectionConfig, over: str = "channels"):
        super().__init__()
        self.over = over
        features = channels if over == "channels" else channels * size * size
        self.connection = build_connection(features, config)

    def forward(self, f_x: Tensor, x: Tensor) -> Tensor:
        if self.over == "image":
            return self.connection.leave(f_x.flatten(1), x.flatten(1)).view_as(x)
        y = self.connection.leave(f_x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


def _options(skip: str) -> dict[str, Option]:
    """A skip type's options by their flags."""
    return {option.flag: option for option in SKIPS[skip].declaration.options}


def add_connection_args(parser) -> None:
    """Add the connection's flags; :func:`connection_config` reads them."""
    parser.add_argument("--skip-type", metavar="TYPE", help=f"how F(x) meets x: {', '.join(OF_IMAGES)}")
    parser.add_argument("--skip-norm", metavar="NORM", help=f"norm of the sum: {', '.join(NORMS)}")
    parser.add_argument(
        "--skip-norm-over",
        metavar="WHAT",
        help="features of that norm: channels of each position (default), or all of the image",
    )
    for skip in OF_IMAGES:
        for name, option in _options(skip).items():
            kind = (
                {"action": "store_true", "default": None}
                if option.metavar is None
                else {"metavar": option.metavar}
            )
            parser.add_argument(f"--{name.replace('_', '-')}", help=f"{option.help} (of {skip})", **kind)


def _given(args: Namespace, skip: str) -> tuple[tuple[str, Any], ...]:
    """The skip type's options; those of another are refused."""
    for owner in OF_IMAGES:
        for name in _options(owner):
            if getattr(args, name, None) not in (None, False) and name not in _options(skip):
                raise UserError(f"--{name.replace('_', '-')} belongs to --skip-type {owner}")
    given = {}
    for name, option in _options(skip).items():
        flag, value = "--" + name.replace("_", "-"), getattr(args, name, None)
        value = {"skip_order": 2}.get(name, option.default) if value is None else value
        if value is None:
            raise UserError(f"--skip-type {skip} needs {flag} {option.metavar}")
        try:
            given[option.name] = option.read(value)
        except ValueError as error:
            raise UserError(f"{flag} {value}: valid is {error}") from error
    return tuple(given.items())


def connection_config(args: Namespace) -> tuple[ConnectionConfig, str]:
    """The connection that the flags ask for, and what its norm is over.

    The norm is none unless given, for the recursive skip LayerNorm, which it cannot do without.

    Raises:
        UserError: for values that are none, and flags that mean nothing together.
    """
    skip = getattr(args, "skip_type", None) or "plain"
    if skip not in OF_IMAGES:
        raise UserError(f"--skip-type {skip}: valid are {', '.join(OF_IMAGES)}")
    norm = getattr(args, "skip_norm", None) or ("layer" if skip == "recursive" else "none")
    if norm not in NORMS:
        raise UserError(f"--skip-norm {norm}: valid are {', '.join(NORMS)}")
    if skip == "recursive" and norm == "none":
        raise UserError("--skip-norm none does not go with --skip-type recursive")
    over = getattr(args, "skip_norm_over", None) or "channels"
    if over not in OVER:
        raise UserError(f"--skip-norm-over {over}: valid are {', '.join(OVER)}")
    return ConnectionConfig(skip, norm, "post", _given(args, skip)), over
