"""Named architectures (``--arch``): fairseq's dimensions with the recursive skip of order 2, or DeepNorm.

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
from fairseq.models.transformer_lm import (
    base_lm_architecture,
    transformer_lm_baevski_wiki103,
    transformer_lm_gpt,
)

from ..common.errors import UserError
from ..nn import SKIPS
from .choices import skip_type_of
from .flags import fill_defaults, fill_placement

__all__ = ["ALIGN_PRESETS", "LM_PRESETS", "MODELS", "PRESETS", "Preset", "register_presets"]

Preset = Callable[[Namespace], None]


def _preset(stock: Preset, skip_type: str = "recursive", order: int | None = 2, **literals) -> Preset:
    """A skip type (rSkip+LN of order 2) on top of a stock architecture, with some of its numbers replaced."""

    def architecture(args: Namespace) -> None:
        for name, value in literals.items():
            setattr(args, name, getattr(args, name, value))
        fill_defaults(args, skip_type, order)
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
    "transformer_rskip_wmt_en_de_36_6": _preset(transformer_wmt_en_de, encoder_layers=36, decoder_layers=6),
    # Wang et al. 2022, arXiv:2203.00555, go to 100 layers a side at these dimensions
    "transformer_deepnorm_wmt_en_de_100_6": _preset(
        transformer_wmt_en_de, "deepnorm", None, encoder_layers=100, decoder_layers=6
    ),
    "transformer_rskip_wmt_en_de_big": _preset(transformer_wmt_en_de_big),
    "transformer_rskip_wmt_en_fr_big": _preset(transformer_vaswani_wmt_en_fr_big),
    "transformer_rskip_vaswani_wmt_en_de_big": _preset(transformer_vaswani_wmt_en_de_big),
}

ALIGN_PRESETS: dict[str, Preset] = {
    "transformer_align_rskip": _preset(transformer_align),
}


def _language_model(stock: Preset, **literals) -> Preset:
    """As :func:`_preset`; fairseq's language models are Pre-LN, and stay so with the skip types that can be."""
    preset = _preset(stock, **literals)

    def architecture(args: Namespace) -> None:
        before = getattr(args, "decoder_normalize_before", False)
        args.language_model = True
        fill_defaults(args, "recursive", 2)
        if SKIPS[skip_type_of(args, "decoder")].merges:
            # the norm that fairseq's wiki103 architecture leaves out is the one that merges the streams
            args.no_decoder_final_norm = getattr(args, "no_decoder_final_norm", False)
        preset(args)
        fill_placement(args, "decoder")
        if before and not args.decoder_normalize_before:
            raise UserError(
                "--decoder-normalize-before: the chosen skip type, norms or placement are not Pre-LN"
            )

    return architecture


LM_PRESETS: dict[str, Preset] = {
    "transformer_lm_rskip": _language_model(base_lm_architecture),
    "transformer_lm_rskip_tiny": _language_model(
        base_lm_architecture,
        decoder_embed_dim=128,
        decoder_ffn_embed_dim=512,
        decoder_layers=2,
        decoder_attention_heads=4,
    ),
    "transformer_lm_rskip_gpt": _language_model(transformer_lm_gpt),
    "transformer_lm_rskip_wiki103": _language_model(transformer_lm_baevski_wiki103),
}

MODELS: dict[str, dict[str, Preset]] = {
    "transformer_rskip": PRESETS,
    "transformer_align_rskip": ALIGN_PRESETS,
    "transformer_lm_rskip": LM_PRESETS,
}


def register_presets() -> None:
    """Register every preset under its model, which must be registered by now."""
    for model, presets in MODELS.items():
        for name, architecture in presets.items():
            register_model_architecture(model, name)(architecture)
