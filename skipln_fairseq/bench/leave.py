"""``leave``: the leave-step alone, as a share of what the device can copy."""

import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.errors import UserError
from ..nn import NORMS
from ..nn.kernels.chain import Link, resolved
from ..nn.kernels.leave import leave
from ..nn.norm.base import norms_of
from . import report
from .options import add_arguments as add_common_arguments
from .options import add_count, check
from .render import print_report
from .statistics import quartiles, ratio

__all__ = ["FORMS", "HELP", "Leave", "add_arguments", "run"]

HELP = "bytes a second of the leave-step, forward and backward, as a share of a copy's"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TENSORS = {"forward": 3, "backward": 5, "copy": 2}
"""How many tensors of F(x)'s size have to be read or written at least."""


def _modules(f_x: Tensor, x: Tensor, norms: Sequence[nn.Module], dropout: float) -> Tensor:
    y = F.dropout(f_x, dropout)
    for norm in norms:
        y = norm(x + y)
    return y


def _fused(f_x: Tensor, x: Tensor, norms: Sequence[nn.Module], dropout: float) -> Tensor:
    return leave(f_x, x, resolved([Link(norm=norm) for norm in norms]), dropout)


FORMS = {"modules": _modules, "fused": _fused}
"""The leave-step of order K of K norms: torch's modules one after another, and in one piece."""


class Leave:
    """One form at one order and in one precision, ready to be timed.

    Args:
        form: a name in ``FORMS``.
        norm: a name in ``NORMS`` that kernels know.
        order: K.
        args: the command's flags.
        dtype: a name in ``TYPES``.
    """

    def __init__(self, form: str, norm: str, order: int, args: Namespace, dtype: str):
        made = {"device": args.device, "dtype": TYPES[dtype]}
        self.step, self.dropout, self.repeats = FORMS[form], args.dropout, args.repeats
        self.synchronise = torch.cuda.synchronize if args.device == "cuda" else lambda: None
        self.f_x, self.x, self.dy = torch.randn(3, args.rows, args.dim, **made)
        self.norms = [NORMS[norm](args.dim).to(**made) for _ in range(order)]
        self.inputs = (
            self.f_x,
            self.x,
            *(parameter for norm in self.norms for parameter in norm.parameters()),
        )
        for tensor in self.inputs:
            tensor.requires_grad_()

    def _seconds(self, call: Callable[[], object]) -> float:
        self.synchronise()
        start = time.perf_counter()
        for _ in range(self.repeats):
            call()
        self.synchronise()
        return (time.perf_counter() - start) / self.repeats

    def seconds(self) -> dict[str, float]:
        """Of a forward, of a backward, and of a copy of one tensor right beside them."""
        y, copied = self.step(self.f_x, self.x, self.norms, self.dropout), torch.empty_like(self.dy)
        return {
            "forward": self._seconds(lambda: self.step(self.f_x, self.x, self.norms, self.dropout)),
            "backward": self._seconds(
                lambda: torch.autograd.grad(y, self.inputs, self.dy, retain_graph=True)
            ),
            "copy": self._seconds(lambda: copied.copy_(self.dy)),
        }


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of one order with their ``summary``; the time of forward and backward is compared with the first's."""

    def rates(run: dict[str, Any], what: str) -> list[float]:
        return [TENSORS[what] / seconds for seconds in run["seconds"][what]]

    def both(run: dict[str, Any]) -> list[float]:
        return [sum(pair) for pair in zip(run["seconds"]["forward"], run["seconds"]["backward"], strict=True)]

    return [
        run
        | {
            "summary": {
                "forward_seconds": quartiles(run["seconds"]["forward"]),
                "backward_seconds": quartiles(run["seconds"]["backward"]),
                "forward_share": ratio(rates(run, "forward"), rates(run, "copy")),
                "backward_share": ratio(rates(run, "backward"), rates(run, "copy")),
                "time_ratio": ratio(both(run), both(runs[0])),
            }
        }
        for run in runs
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    add_common_arguments(parser, "bench/leave.json")
    add_count(parser, "rows", 8192, "tokens of a batch")
    add_count(parser, "dim", 512, "features")
    add_count(parser, "repeats", 3, "calls that are timed together")
    parser.add_argument(
        "--orders", nargs="+", type=int, default=[1, 2, 4, 8], metavar="K", help="default: 1 2 4 8"
    )
    parser.add_argument(
        "--norms",
        nargs="+",
        choices=_known(),
        default=["layer"],
        metavar="NORM",
        help=f"of {', '.join(_known())} (default: layer)",
    )
    parser.add_argument("--dropout", type=float, default=0.1, metavar="P", help="default: 0.1")


def _known() -> list[str]:
    """The norms that kernels know; LayerNorm first."""
    return [name for name in norms_of(("token",)) if resolved([Link(norm=NORMS[name](1))]) is not None]


def _measure(args: Namespace, dtype: str, order: int, turns: random.Random) -> list[dict[str, Any]]:
    forms = {
        form if norm == "layer" else f"{form} {norm}": Leave(form, norm, order, args, dtype)
        for norm in args.norms
        for form in FORMS
    }
    found = {name: {what: [] for what in TENSORS} for name in forms}
    for number in range(args.warmup + args.rounds):
        for name in turns.sample(list(forms), len(forms)):
            for what, seconds in forms[name].seconds().items():
                if number >= args.warmup:
                    found[name][what].append(seconds)
    return [
        {"contestant": name, "series": f"{name} {dtype}", "seconds": seconds}
        for name, seconds in found.items()
    ]


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure, write the report, and print it."""
    check(args)
    if min(args.orders) < 1:
        raise UserError(f"--orders {min(args.orders)}: valid is a whole number of at least 1")
    if not 0 <= args.dropout < 1:
        raise UserError(f"--dropout {args.dropout}: valid is a number from 0 to below 1")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    turns = random.Random(args.seed)
    found = report.new(args, "leave", "order")
    with console.status("starting") as status:
        for dtype in args.dtype:
            for order in args.orders:
                status.update(f"{dtype}, order {order}")
                runs = summarise(_measure(args, dtype, order, turns))
                name = f"{args.rows} × {args.dim} {dtype}"
                found["heats"].append({"shape": name, "value": order, "runs": runs})
    report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)
