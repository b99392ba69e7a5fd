"""Hooks that report each sub-layer's norms and ratios while a model runs forward and backward."""

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..nn import Connection
from ..nn.norm.statistics import real_tokens
from .ratio import ratios
from .streams import STREAM_QUANTITIES, of_streams

__all__ = ["QUANTITIES", "SubLayer", "sub_layers", "watch"]

QUANTITIES = {
    "activation_norm": "mean over real tokens of ‖y‖₂, y the sub-layer's output",
    "gradient_norm": "‖∂loss/∂y‖₂ over the whole batch",
    "coefficient_ratio": "median of |coefficient of x / coefficient of F(x)| in the last sum",
    "term_ratio": "‖term of x‖₂ / ‖term of F(x)‖₂ in the last sum",
    **STREAM_QUANTITIES,
}
"""What is reported, and its definition. The loss is what runs backward; ratios are those of :mod:`.ratio`."""

CONNECTION = re.compile(
    r"(encoder|decoder)\..*?layers\.(\d+)\.(?:.*\.)?(self_attn|encoder_attn|final)_layer_norm"
)
SLOTS = {"self_attn": "self_attn", "encoder_attn": "cross_attn", "final": "ffn"}

Report = Callable[["SubLayer", str, Tensor], None]


class SubLayer(NamedTuple):
    """Where a sub-layer stands: encoder or decoder, its layer from 0, and self_attn, cross_attn or ffn."""

    side: str
    layer: int
    slot: str

    def __str__(self) -> str:
        return f"{self.side}.{self.layer}.{self.slot}"


def sub_layers(model: nn.Module) -> dict[SubLayer, nn.Module]:
    """The connections of a model of this plugin, in the order in which x passes them."""
    found = {}
    for name, module in model.named_modules():
        match = CONNECTION.search(name)
        if match and isinstance(module, Connection):
            found[SubLayer(match[1], int(match[2]), SLOTS[match[3]])] = module
    order = {"encoder": 0, "decoder": 1}, ("self_attn", "cross_attn", "ffn")
    return dict(
        sorted(found.items(), key=lambda it: (order[0][it[0].side], it[0].layer, order[1].index(it[0].slot)))
    )


def _observe(place: SubLayer, connection: nn.Module, report: Report) -> list[RemovableHandle]:
    def at_sum(skip: nn.Module, inputs: tuple, total: Tensor) -> None:
        f_x, stream, padding_mask = inputs
        if not torch.is_grad_enabled():
            return
        found = ratios(skip, f_x, skip.read(stream), padding_mask)
        if found:
            report(place, "coefficient_ratio", found[0])
            report(place, "term_ratio", found[1])
        for quantity, value in of_streams(skip, stream, total, padding_mask).items():
            report(place, quantity, value)

    forwards = 0

    def at_output(module: nn.Module, inputs: tuple, y: Tensor) -> None:
        nonlocal forwards
        if y.requires_grad:
            forwards += 1
            number = forwards

            def at_gradient(gradient: Tensor) -> None:
                if (
                    number == forwards
                ):  # a solver's block is applied again and again: of the last one, as is y
                    report(place, "gradient_norm", gradient.double().norm())

            tokens = real_tokens(y.detach(), inputs[-1])
            report(place, "activation_norm", tokens.double().norm(dim=-1).mean())
            y.register_hook(at_gradient)

    # a connection that ends in a norm is that norm; the others end in the skip's sum
    output = connection.skip if connection.ends_with_norm else connection
    return [connection.skip.register_forward_hook(at_sum), output.register_forward_hook(at_output)]


def watch(model: nn.Module, report: Report) -> list[RemovableHandle]:
    """Report every quantity of ``QUANTITIES`` of every sub-layer, until the handles are removed.

    Only forward passes with gradients are reported, so evaluation is not, and with
    ``--checkpoint-activations`` the second forward is and the first is not. y is what the next sub-layer reads as x.

    Args:
        model: a model of this plugin.
        report: called with the sub-layer, the quantity's name and a scalar tensor.
    """
    return [
        handle
        for place, connection in sub_layers(model).items()
        for handle in _observe(place, connection, report)
    ]
