"""What a fresh layer of fairseq's sub-layers is made into before it is trained, by skip type and placement."""

from collections.abc import Callable

from torch import nn

from ..nn.init import b2t_, deepnorm_, subln_
from .config import StackConfig

__all__ = ["initialise"]


def _deepnorm(layer: nn.Module, config: StackConfig) -> None:
    attentions = [layer.self_attn, getattr(layer, "encoder_attn", None)]
    query_key, other = [], [layer.fc1, layer.fc2]
    for attention in filter(None, attentions):
        query_key += [attention.q_proj, attention.k_proj]
        other += [attention.v_proj, attention.out_proj]
    deepnorm_(query_key, other, config.gain)


def _subln(layer: nn.Module, config: StackConfig) -> None:
    subln_([layer.self_attn.v_proj, layer.self_attn.out_proj, layer.fc1, layer.fc2], config.gain)


def _b2t(layer: nn.Module, config: StackConfig) -> None:
    b2t_((module for module in layer.modules() if isinstance(module, nn.Linear)), config.gain)


INITIALISERS: dict[str, Callable[[nn.Module, StackConfig], None]] = {
    "as drawn": lambda layer, config: None,
    "b2t": _b2t,
    "deepnorm": _deepnorm,
    "sub": _subln,
}


def initialise(layer: nn.Module, config: StackConfig) -> nn.Module:
    """Initialise a fresh layer's sub-layers as its connections ask; most leave them as fairseq did."""
    INITIALISERS[config.initial](layer, config)
    return layer
