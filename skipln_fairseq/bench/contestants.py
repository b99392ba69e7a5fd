"""The models that are compared: a base, and what is changed about it.

A contestant is written ``BASE`` or ``BASE+CHANGE+…``, for instance ``order-2+bf16``, or as the probe's
``'NAME: FLAGS'`` with any flags of fairseq-train.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from ..common.errors import UserError

__all__ = ["CHANGES", "DEFAULT", "DTYPES", "Contestant", "contestant", "contestants"]

STOCK = ("--arch", "transformer")
BASES = {
    "stock": STOCK,
    "null": STOCK,
    "plain": ("--arch", "transformer_rskip", "--skip-type", "plain"),
}
ORDERS = {
    "order": ("--arch", "transformer_rskip", "--skip-order"),
    "naive": ("--arch", "transformer_naive_rskip", "--skip-order"),
}
CHANGES = {
    "reference": ("--kernels", "reference"),
    "fused": ("--criterion", "fused_label_smoothed_cross_entropy"),
    "bf16": ("--bf16",),
    "fp16": ("--fp16",),
    "compile": (),  # no flag: see Contestant.compiled
}
DTYPES = {"fp32": (), "bf16": ("bf16",), "fp16": ("fp16",)}
DEFAULT = (
    "stock",
    "plain",
    "order-1",
    "order-2",
    "order-4",
    "order-8",
    "naive-2",
    "naive-8",
    "order-2+fused",
)
VALID = (
    f"valid are {', '.join(BASES)}, order-K, naive-K, each with any of {', '.join('+' + c for c in CHANGES)}, "
    "or 'NAME: FLAGS'"
)


@dataclass(frozen=True)
class Contestant:
    """A name, and the flags of fairseq-train that make it what it is.

    ``null`` is ``stock`` under another name: how far its ratio is from 1 is what the comparison cannot resolve.

    Attributes:
        name: of this one.
        series: of all that differ in nothing but the order that grows.
        flags: over those of the shape.
        compiled: with ``torch.compile``, see :mod:`.compiled`.
    """

    name: str
    series: str
    flags: tuple[str, ...]
    compiled: bool = field(default=False, kw_only=True)

    def changed(self, change: str) -> "Contestant":
        """The same with one of ``CHANGES``."""
        return replace(
            self,
            name=f"{self.name}+{change}",
            series=f"{self.series}+{change}",
            flags=(*self.flags, *CHANGES[change]),
            compiled=self.compiled or change == "compile",
        )


def contestant(text: str, k: int | None = None) -> Contestant:
    """Read one contestant.

    Args:
        text: how it is written.
        k: what K stands for in ``order-K`` and ``naive-K``.

    Raises:
        UserError: where there is none of this name.
    """
    name, colon, flags = text.partition(":")
    if colon:
        return Contestant(name.strip(), name.strip(), tuple(flags.split()))
    series, *changes = text.split("+")
    name = series if k is None else re.sub("-K$", f"-{k}", series)
    order = re.fullmatch(r"(order|naive)-([1-9]\d*)", name)
    if (name not in BASES and order is None) or not set(changes) <= CHANGES.keys():
        raise UserError(f"--contestants {text}: {VALID}")
    base = Contestant(name, series, (*ORDERS[order[1]], order[2]) if order else BASES[name])
    return reduce(Contestant.changed, changes, base)


def contestants(texts: Sequence[str], dtypes: Sequence[str], k: int | None = None) -> list[Contestant]:
    """All contestants in every precision; the first one is the one that the others are compared with.

    Raises:
        UserError: for unknown names, and for two of the same name.
    """
    found = []
    for dtype in dtypes:
        found += [reduce(Contestant.changed, DTYPES[dtype], contestant(text, k)) for text in texts]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--contestants {name}: two contestants have this name")
    return found
