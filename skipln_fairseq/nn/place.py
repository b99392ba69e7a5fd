"""Where a block of plain PyTorch stands in its model, as far as it is told."""

from typing import Any, Optional, Union

from .choice import ChoiceError
from .connection import ConnectionConfig
from .skip import Site

__all__ = ["PLACE", "Standing", "is_whole", "place"]

PLACE = {
    "layer": "the number of the block's layer, from 0",
    "depth": "how many layers the model has, or a pair: of its encoder and of its decoder",
    "index": "the number of the block in its layer, from 0",
    "size": "how many blocks a layer has",
}

FIRST = "the block of the same layer that has index 0, with which it shares a parameter"


def is_whole(number: Any, least: int) -> bool:
    """Whether it is a whole number, and at least that."""
    return isinstance(number, int) and number >= least


def place(
    side: str,
    layer: Optional[int],
    depth: Union[int, tuple[int, int], None],
    index: Optional[int],
    size: Optional[int],
) -> dict[str, Any]:
    """Fields of a :class:`.Site`, those that were told."""
    if side not in ("encoder", "decoder"):
        raise ChoiceError(f"side={side!r}: valid are encoder, decoder")
    depths = _depths(side, depth)
    layers = None if depths is None else depths[side == "decoder"]
    for name, number, end in (("layer", layer, layers), ("index", index, size)):
        if number is not None and not (is_whole(number, 0) and (end is None or number < end)):
            raise ChoiceError(
                f"{name}={number!r}: valid is {PLACE[name]}" + ("" if end is None else f" to {end - 1}")
            )
    if size is not None and not is_whole(size, 1):
        raise ChoiceError(f"size={size!r}: valid is {PLACE['size']}")
    told: dict[str, Any] = {"layer": layer, "depth": depths, "index": index, "size": size}
    if index is not None and size is not None:
        told["last"] = index == size - 1
    return {"side": side} | {name: value for name, value in told.items() if value is not None}


def _depths(side: str, depth: Union[int, tuple[int, int], None]) -> Optional[tuple[int, ...]]:
    """How many layers encoder and decoder have."""
    if depth is None:
        return None
    depths: tuple[Any, ...] = (depth, 0) if side == "encoder" else (0, depth)
    if isinstance(depth, (tuple, list)):
        depths = tuple(depth)
    if len(depths) != 2 or not all(is_whole(one, 0) for one in depths) or depths[side == "decoder"] < 1:
        raise ChoiceError(f"depth={depth!r}: valid is {PLACE['depth']}")
    return depths


class Standing:
    """Where a block stands, for those who read it. What they read and were not told is asked for, all at once.

    Args:
        told: the fields that are known, see :func:`place`.
    """

    def __init__(self, told: dict[str, Any]):
        self.told = told
        self.missing: dict[str, str] = {}

    def site(self, dim: int, **fields: Any) -> Site:
        """A site with stand-ins for what is not told. Reading one is noted, until :meth:`check`."""
        told, missing = self.told, self.missing
        layer, index = told.get("layer", 0), told.get("index", 1)
        # a block in the middle of its layer: the first and the last are those that are known by one field alone
        stand_ins = {"depth": (layer + 1, layer + 1), "index": index, "size": index + 2}

        class Noting(Site):
            def __getattribute__(self, name: str) -> Any:
                parts = ("index", "size") if name == "last" else (name,)
                missing.update((part, PLACE[part]) for part in parts if part in PLACE and part not in told)
                value = super().__getattribute__(name)
                if name == "first" and value is None and told.get("index"):
                    missing["first"] = FIRST
                return value

        return Noting(dim, **(stand_ins | fields))

    def check(self, config: ConnectionConfig) -> None:
        """Ask for all that was read and not told, and whatever else was noted in ``missing``.

        Raises:
            ChoiceError: names it.
        """
        order = [*PLACE, *self.missing]
        needed = sorted(self.missing.items(), key=lambda item: order.index(item[0]))
        if needed:
            raise ChoiceError(
                f"skip {config.skip!r} with placement {config.placement!r} needs "
                + "; ".join(f"{name}=, {text}" for name, text in needed)
            )
