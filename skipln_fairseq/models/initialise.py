"""The initialisations of ``nn.init``, applied to a layer of fairseq's sub-layers."""

from collections.abc import Callable

from torch import nn

from ..nn.init import deepnorm_
from .config import StackConfig

__all__ = ["initialise"]


def _deepnorm(layer: nn.Module, config: StackConfig) -> None:
    attentions = [layer.self_attn, getattr(layer, "encoder_attn", None)]
    query_key, other = [], [layer.fc1, layer.fc2]
    for attention in filter(None, attentions):
        query_key += [attention.q_proj, attention.k_proj]
        other += [attention.v_proj, attention.out_proj]
    deepnorm_(query_key, other, config.gain)


INITIALISERS: dict[str, Callable[[nn.Module, StackConfig], None]] = {"deepnorm": _deepnorm}


def initialise(layer: nn.Module, config: StackConfig) -> nn.Module:
    """Initialise a fresh layer's sub-layers as its skip type asks; most leave them as fairseq did."""
    INITIALISERS.get(config.ffn.skip, lambda layer, config: None)(layer, config)
    return layer
