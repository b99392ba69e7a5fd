"""Encoder and decoder: fairseq's stacks, with our layers in them."""

from typing import Dict, List, Optional

import torch
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from ..nn import build_end
from ..nn.kernels.decode import Plan, Translations
from .beams import Beams
from .config import StackConfig
from .connected import retains_dropout
from .fast_attention import FastAttention
from .follow import as_it_was
from .layers import SkipDecoderLayer, SkipEncoderLayer
from .one_graph import decode, encode, is_traced

__all__ = ["SkipDecoder", "SkipEncoder"]


def _wrap_layer(layer: nn.Module, cfg) -> nn.Module:
    """What stock does to a layer it has built, for activation checkpointing. Shards are made of whole models."""
    if cfg.checkpoint_activations:
        return checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    return layer


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
        self.unbuilt = list(config.layers)
        super().__init__(cfg, dictionary, embed_tokens)
        self.layer_norm = build_end(embed_tokens.embedding_dim, config.last.ffn, **config.end())
        self.dropout_module.module_name = "TransformerEncoder"  # its name in --retain-dropout-modules

    def forward(
        self,
        src_tokens,
        src_lengths: Optional[Tensor] = None,
        return_all_hiddens: bool = False,
        token_embeddings: Optional[Tensor] = None,
    ):
        """fairseq's, in one graph where it is traced."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (joined with the other one, TorchScript compiles that too)
            if is_traced(self):
                return encode(self, src_tokens, return_all_hiddens, token_embeddings)
        return self.forward_scriptable(src_tokens, src_lengths, return_all_hiddens, token_embeddings)

    def __prepare_scriptable__(self) -> nn.Module:
        return as_it_was(self)

    def build_encoder_layer(self, cfg) -> nn.Module:
        return _wrap_layer(SkipEncoderLayer(cfg, self.config, self.unbuilt.pop(0)), cfg)


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
        self.unbuilt = list(config.layers)
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=no_encoder_attn)
        self.layer_norm = (
            None if cfg.no_decoder_final_norm else build_end(self.embed_dim, config.last.ffn, **config.end())
        )
        self.dropout_module.module_name = "TransformerDecoder"  # its name in --retain-dropout-modules

    def extract_features(
        self,
        prev_output_tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        full_context_alignment: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
    ):
        """fairseq's, in one graph where it is traced."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (as above)
            if is_traced(self, incremental_state):
                how = (full_context_alignment, alignment_layer, alignment_heads)
                return decode(self, prev_output_tokens, encoder_out, *how)
        return self.extract_features_scriptable(
            prev_output_tokens,
            encoder_out,
            incremental_state,
            full_context_alignment,
            alignment_layer,
            alignment_heads,
        )

    def reorder_incremental_state_scripting(
        self, incremental_state: Dict[str, Dict[str, Optional[Tensor]]], new_order: Tensor
    ):
        """Let row i of a decoding become what row ``new_order[i]`` was."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (joined with the other one, TorchScript compiles that too)
            if Beams.reorder_state(incremental_state, new_order):
                return
        for module in self.modules():  # as fairseq does; TorchScript knows no super()
            if hasattr(module, "reorder_incremental_state"):
                changed = module.reorder_incremental_state(incremental_state, new_order)
                if changed is not None:
                    incremental_state = changed

    def advance(
        self, words: Tensor, step: int, encoder_out, incremental_state
    ) -> tuple[Tensor, Optional[Tensor]]:
        """A step of incremental decoding.

        Args:
            words: (rows,), the newest.
            step: how many there were before them.
            encoder_out: the encoder's.
            incremental_state: with a cache that holds those before.

        Returns:
            logits (rows, words), until the next step; the last attention's weights (rows, src_len), or None
        """
        # with a cache the last word only is read, and of the others how many they are
        before = words[:, None].expand(-1, step + 1)
        logits, extra = self(before, encoder_out=encoder_out, incremental_state=incremental_state)
        attention = extra["attn"][0]
        return logits[:, -1], None if attention is None else attention[:, -1]

    def search(self, source: Tensor, plan: Plan) -> Optional[Translations]:
        """A whole plain beam search.

        Args:
            source: (sentences, src_len), words.
            plan: what is searched for.

        Returns:
            what was found, or None where a search is not one call
        """
        return None

    def keeps_beams(self) -> bool:
        """Whether all that incremental decoding keeps is in :class:`.Beams`."""
        like = next(self.parameters())
        attentions = [
            one for layer in self.layers for one in (layer.self_attn, layer.encoder_attn) if one is not None
        ]
        return (
            self.adaptive_softmax is None
            # fairseq draws for every hypothesis from the first word on
            and not retains_dropout(self)
            and all(isinstance(one, FastAttention) and one.decodes(like) for one in attentions)
        )

    def __prepare_scriptable__(self) -> nn.Module:
        return as_it_was(self)

    def build_decoder_layer(self, cfg, no_encoder_attn: bool = False) -> nn.Module:
        layer = SkipDecoderLayer(cfg, self.config, self.unbuilt.pop(0), no_encoder_attn)
        return _wrap_layer(layer, cfg)
