"""The connections of ``nn`` on feature maps."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ...arguments import finite, whole
from ...errors import UserError
from ...nn import NORMS, ConnectionConfig, SkipOptions, build_connection

__all__ = ["OVER", "SpatialConnection", "add_connection_args", "connection_config"]

SKIPS = ("plain", "expanded", "recursive")
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


def add_connection_args(parser) -> None:
    """Add the connection's flags; :func:`connection_config` reads them."""
    parser.add_argument("--skip-type", metavar="TYPE", help=f"how F(x) meets x: {', '.join(SKIPS)}")
    parser.add_argument("--skip-order", metavar="K", help="order of the recursive skip, at least 1")
    parser.add_argument("--skip-scale", metavar="λ", help="scale of x in the expanded skip")
    parser.add_argument("--skip-norm", metavar="NORM", help=f"norm of the sum: {', '.join(NORMS)}")
    parser.add_argument(
        "--skip-norm-over",
        metavar="WHAT",
        help="features of that norm: channels of each position (unless given), or all of the image",
    )
    parser.add_argument(
        "--share-skip-norms",
        action="store_true",
        default=None,
        help="one set of norm parameters for all steps of the recursive skip",
    )


def _number(args: Namespace, name: str, read: Callable[[str, Any], float], owner: str) -> float | int | None:
    value = getattr(args, name, None)
    flag = "--" + name.replace("_", "-")
    if value is None:
        return None
    if (getattr(args, "skip_type", None) or "plain") != owner:
        raise UserError(f"{flag} belongs to --skip-type {owner}")
    return read(flag, value)


def connection_config(args: Namespace) -> tuple[ConnectionConfig, str]:
    """The connection that the flags ask for, and what its norm is over.

    The norm is none unless given, for the recursive skip LayerNorm, which it cannot do without.

    Raises:
        UserError: for values that are none, and flags that mean nothing together.
    """
    skip = getattr(args, "skip_type", None) or "plain"
    if skip not in SKIPS:
        raise UserError(f"--skip-type {skip}: valid are {', '.join(SKIPS)}")
    norm = getattr(args, "skip_norm", None) or ("layer" if skip == "recursive" else "none")
    if norm not in NORMS:
        raise UserError(f"--skip-norm {norm}: valid are {', '.join(NORMS)}")
    if skip == "recursive" and norm == "none":
        raise UserError("--skip-norm none does not go with --skip-type recursive")
    over = getattr(args, "skip_norm_over", None) or "channels"
    if over not in OVER:
        raise UserError(f"--skip-norm-over {over}: valid are {', '.join(OVER)}")
    order = _number(args, "skip_order", whole, "recursive")
    scale = _number(args, "skip_scale", finite, "expanded")
    if skip == "expanded" and scale is None:
        raise UserError("--skip-type expanded needs --skip-scale λ")
    share = bool(getattr(args, "share_skip_norms", None))
    if share and skip != "recursive":
        raise UserError("--share-skip-norms belongs to --skip-type recursive")
    options = SkipOptions(scale=1.0 if scale is None else scale, order=2 if order is None else order)
    return ConnectionConfig(skip, norm, "post", options, share_norms=share), over
