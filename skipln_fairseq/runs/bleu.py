"""Options of sacreBLEU's BLEU, as users write them."""

from collections.abc import Mapping
from typing import Any

from sacrebleu.metrics import BLEU

from ..common.errors import UserError

__all__ = ["check_bleu"]


def check_bleu(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options with which sacreBLEU computes nothing.

    Args:
        name: where the options stand.
        options: of :class:`sacrebleu.metrics.BLEU`.

    Raises:
        UserError: says what it makes of them.
    """
    try:
        BLEU(**options).corpus_score(["one"], [["one"]])
    except Exception as error:  # sacreBLEU's errors have no class in common
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{name}: {dict(options)}: sacreBLEU cannot compute it ({said})") from error
