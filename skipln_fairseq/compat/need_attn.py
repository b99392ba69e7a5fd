"""A model that ``from_pretrained`` has made can be scripted.

fairseq's commands and its hub set a decoder layer's ``need_attn``, a bool, to None, and TorchScript knows one type of
an attribute.
"""

from typing import Any

from fairseq.modules.transformer_layer import TransformerDecoderLayerBase

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Let a layer's ``make_generation_fast_``, which all of them call, keep it a bool; our layers inherit it."""

    @around(TransformerDecoderLayerBase, "make_generation_fast_")
    def make_generation_fast_(
        stock, layer: TransformerDecoderLayerBase, need_attn: bool | None = False, **kwargs: Any
    ) -> None:
        stock(layer, need_attn=bool(need_attn), **kwargs)
