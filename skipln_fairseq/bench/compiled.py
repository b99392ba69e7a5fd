"""A contestant's model under ``torch.compile``: what a user would try first to make fairseq's own quicker."""

import torch
from torch import nn

__all__ = ["compile_model"]


def compile_model(model: nn.Module) -> None:
    """Let ``torch.compile`` have the whole model's forward and backward, in place.

    Sizes are symbols from the start, as each batch has others; the loss and the optimizer stay as they are. fairseq's
    encoder asks a tensor whether there is padding, so its graph breaks there. Layer by layer there is no break, but
    each layer is compiled again for what it is given, masks or none: on a CPU, at the tiny shape, that took ten times
    as long, for the same speed.
    """
    torch._dynamo.config.recompile_limit = 64  # beyond which torch would go on uncompiled, and say nothing
    model.compile(dynamic=True)
