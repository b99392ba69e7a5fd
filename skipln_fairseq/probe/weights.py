"""The learned weights with which blocks read the outputs before them: DLCL's and DenseFormer's matrix."""

from torch import nn

from ..nn.mixing.denseformer import DenseFormer
from ..nn.mixing.dlcl import DLCL

__all__ = ["Matrix", "matrices"]

Matrix = list[list[float]]
"""A row for each block that mixes and for the stack's end: the weights of the embedding and of the blocks before."""


def matrices(model: nn.Module) -> dict[str, Matrix]:
    """The matrix of each side that has one."""
    found: dict[str, Matrix] = {}
    for side in ("encoder", "decoder"):
        modules = getattr(model, side, nn.Module()).modules()
        rows = [_row(one) for one in modules if isinstance(one, DLCL | DenseFormer)]
        if rows:
            found[side] = rows
    return found


def _row(mixing: DLCL | DenseFormer) -> list[float]:
    """A weight for each output before; 0 for what a dilated sum leaves out."""
    weights = mixing.weight.tolist()
    if isinstance(mixing, DLCL):
        return weights
    row = [0.0] * (mixing.first + mixing.dilation * (len(weights) - 1) + 1)
    row[mixing.first :: mixing.dilation] = weights
    return row
