"""``--encoder-layers-to-keep`` and ``--decoder-layers-to-keep`` prune once, each its own side.

Without it a checkpoint that was pruned already is pruned again, by numbers that it no longer has, and the layers of the
side that no flag names are lost. A stock model that is trained with these flags ends in a traceback.
"""

import re
from typing import Any

from fairseq import checkpoint_utils, models
from omegaconf import DictConfig, ListConfig, open_dict
from torch import Tensor

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply", "depth"]

SIDES = ("encoder", "decoder")


def apply() -> None:
    """Say for both sides which layers of the checkpoint are meant; fairseq's functions are looked up at each load."""

    @around(models, "build_model")
    def build_model(stock, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        for side in SIDES:  # fairseq's parser makes a list of them, and its models split text
            kept = getattr(cfg, f"{side}_layers_to_keep", None)
            if isinstance(kept, (list, ListConfig)):
                _set(cfg, f"{side}_layers_to_keep", ",".join(map(str, kept)))
        return stock(cfg, *args, **kwargs)

    @around(checkpoint_utils, "prune_state_dict")
    def prune_state_dict(stock, state_dict: dict[str, Tensor], model_cfg: Any) -> dict[str, Tensor]:
        flags = {side: getattr(model_cfg, f"{side}_layers_to_keep", None) for side in SIDES}
        if not any(flags.values()):
            return stock(state_dict, model_cfg)
        for side, flag in flags.items():
            _set(model_cfg, f"{side}_layers_to_keep", _kept(side, flag, depth(state_dict, side)))
        return stock(state_dict, model_cfg)


def depth(state: dict[str, Tensor], side: str) -> int:
    """How many layers a side has, by the names of its parameters."""
    numbers = (re.match(rf"{side}\.layers\.(\d+)\.", name) for name in state)
    return len({number[1] for number in numbers if number})


def _kept(side: str, flag: str | None, layers: int) -> str | None:
    numbers = sorted(int(number) for number in flag.split(",")) if flag else []
    if not flag or len(numbers) == layers:  # pruned already, or made with so few
        numbers = list(range(layers))
    if numbers and not 0 <= numbers[0] <= numbers[-1] < layers:
        raise UserError(f"--{side}-layers-to-keep {flag}: there are layers 0 to {layers - 1}")
    return ",".join(map(str, numbers)) or None


def _set(flags: Any, name: str, value: str | None) -> None:
    if isinstance(flags, DictConfig):
        with open_dict(flags):
            flags[name] = value
    else:
        setattr(flags, name, value)
