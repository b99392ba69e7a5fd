"""Encoder and decoder: fairseq's stacks, with our layers in them."""

from fairseq.distributed import fsdp_wrap
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import nn

from ..nn import build_end
from .config import StackConfig
from .initialise import initialise
from .layers import SkipDecoderLayer, SkipEncoderLayer

__all__ = ["SkipDecoder", "SkipEncoder"]


def _wrap_layer(layer: nn.Module, cfg) -> nn.Module:
    """What stock does to a layer it has built: activation checkpointing, then FSDP.

    A checkpointed layer is wrapped whatever its size, as in stock.
    """
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
        return fsdp_wrap(layer, min_num_params=0)
    return fsdp_wrap(layer, min_num_params=cfg.min_params_to_wrap)


class SkipEncoder(TransformerEncoderBase):
    """fairseq's Transformer encoder over :class:`SkipEncoderLayer`.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: the source dictionary.
        embed_tokens: the source embedding.
        config: the wiring of its sub-layers.
    """

    def __init__(self, cfg, dictionary, embed_tokens, config: StackConfig):
        self.config = config
        super().__init__(cfg, dictionary, embed_tokens)
        self.layer_norm = build_end(embed_tokens.embedding_dim, config.ffn)
        self.dropout_module.module_name = "TransformerEncoder"  # its name in --retain-dropout-modules

    def build_encoder_layer(self, cfg) -> nn.Module:
        return _wrap_layer(initialise(SkipEncoderLayer(cfg, self.config), self.config), cfg)


class SkipDecoder(TransformerDecoderBase):
    """fairseq's Transformer decoder over :class:`SkipDecoderLayer`.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: the target dictionary.
        embed_tokens: the target embedding.
        config: the wiring of its sub-layers.
        no_encoder_attn: leave the cross-attention out.
    """

    def __init__(self, cfg, dictionary, embed_tokens, config: StackConfig, no_encoder_attn: bool = False):
        self.config = config
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=no_encoder_attn)
        self.layer_norm = None if cfg.no_decoder_final_norm else build_end(self.embed_dim, config.ffn)
        self.dropout_module.module_name = "TransformerDecoder"  # its name in --retain-dropout-modules

    def build_decoder_layer(self, cfg, no_encoder_attn: bool = False) -> nn.Module:
        layer = SkipDecoderLayer(cfg, self.config, no_encoder_attn)
        return _wrap_layer(initialise(layer, self.config), cfg)
