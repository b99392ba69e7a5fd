"""Named architectures (``--arch``): fairseq's dimensions with the recursive skip of order 2.

A preset fills only what the command line left open, so every flag beats it.
"""

from argparse import Namespace
from collections.abc import Callable

from fairseq.models import register_model_architecture
from fairseq.models.transformer import (
    base_architecture,
    transformer_iwslt_de_en,
    transformer_vaswani_wmt_en_de_big,
    transformer_vaswani_wmt_en_fr_big,
    transformer_wmt_en_de,
    transformer_wmt_en_de_big,
)
from fairseq.models.transformer_align import transformer_align

from .flags import fill_defaults

__all__ = ["ALIGN_PRESETS", "PRESETS", "Preset", "register_presets"]

Preset = Callable[[Namespace], None]


def _preset(stock: Preset, **literals) -> Preset:
    """rSkip+LN of order 2 on top of a stock architecture, with some of its numbers replaced."""

    def architecture(args: Namespace) -> None:
        for name, value in literals.items():
            setattr(args, name, getattr(args, name, value))
        fill_defaults(args, skip_type="recursive", order=2)
        stock(args)

    return architecture


TINY = {
    "encoder_embed_dim": 128,
    "encoder_ffn_embed_dim": 512,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
}

PRESETS: dict[str, Preset] = {
    "transformer_rskip": _preset(base_architecture),
    "transformer_rskip_tiny": _preset(base_architecture, **TINY),
    "transformer_rskip_iwslt_de_en": _preset(transformer_iwslt_de_en),
    # IWSLT'15 is as small as IWSLT'14: the literature trains both at the same dimensions
    "transformer_rskip_iwslt_en_vi": _preset(transformer_iwslt_de_en),
    "transformer_rskip_wmt_en_de": _preset(transformer_wmt_en_de),
    "transformer_rskip_wmt_en_de_18_6": _preset(transformer_wmt_en_de, encoder_layers=18, decoder_layers=6),
    "transformer_rskip_wmt_en_de_big": _preset(transformer_wmt_en_de_big),
    "transformer_rskip_wmt_en_fr_big": _preset(transformer_vaswani_wmt_en_fr_big),
    "transformer_rskip_vaswani_wmt_en_de_big": _preset(transformer_vaswani_wmt_en_de_big),
}

ALIGN_PRESETS: dict[str, Preset] = {
    "transformer_align_rskip": _preset(transformer_align),
}


def register_presets() -> None:
    """Register every preset under its model, which must be registered by now."""
    for model, presets in (("transformer_rskip", PRESETS), ("transformer_align_rskip", ALIGN_PRESETS)):
        for name, architecture in presets.items():
            register_model_architecture(model, name)(architecture)
