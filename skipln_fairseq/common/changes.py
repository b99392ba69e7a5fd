"""In what the model of a checkpoint and the model of a run differ."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Changes"]


@dataclass(frozen=True)
class Changes:
    """What a model's ``changes(stored_args, args)`` finds in two sets of flags.

    Args:
        connections: each as ``norm layer → rms``; fine-tuning may change these, resuming may not.
        network: what neither may change.
        retyped: ``encoder skip``, ``decoder mixing`` and so on, where a side has another type of it now, so that what
            it learned under the same name is something else.
    """

    connections: Sequence[str]
    network: Sequence[str] = ()
    retyped: Collection[str] = ()
