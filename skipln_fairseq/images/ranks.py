"""The place of the right class among all, from which every accuracy is counted."""

from torch import Tensor

__all__ = ["ranked"]


def ranked(logits: Tensor, target: Tensor) -> Tensor:
    """The place of each right class, (N), from 1; logits (N, classes).

    Of equal ones the right one comes last: a model that has nothing but equal logits is no good one, nor is one whose
    logits are no numbers.
    """
    right = logits.gather(1, target[:, None])
    return (~(logits < right)).sum(1)
