"""Stacks whose blocks read more than the output of the block before, or are applied more than once: ``--depth-mixing``,
``--value-residual``, ``--cross-attention-source`` and ``--encoder-solver``.

fairseq's loops know nothing between two layers, so these stacks have their own; all others keep fairseq's. What is
remembered are lists of tensors that live for one pass.
"""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from ..nn import build_mixing
from .config import StackConfig
from .mixing_layers import (
    MixingDecoderLayer,
    MixingEncoderLayer,
    ResidualDecoderLayer,
    ResidualEncoderLayer,
    SolvingEncoderLayer,
    decoder_slots,
    wrap_layer,
)
from .stacks import SkipDecoder, SkipEncoder

__all__ = ["MixingDecoder", "MixingEncoder", "stack_classes"]


class MixingEncoder(SkipEncoder):
    """See :class:`.SkipEncoder`."""

    def __init__(self, cfg, dictionary, embed_tokens, config: StackConfig):
        self.solvers = []  # while the layers are built
        super().__init__(cfg, dictionary, embed_tokens, config)
        del self.solvers
        where = {"side": config.side, "layer": len(config.layers), "slots": 2}
        self.end_mixing = build_mixing(embed_tokens.embedding_dim, config.ffn, **where)
        self.source = config.make_source()
        if self.source.reads_outputs:
            self.layer_norm = None

    def build_encoder_layer(self, cfg) -> nn.Module:
        number = self.unbuilt.pop(0)
        if self.config.ffn.solver == "none":
            kind = MixingEncoderLayer if self.config.value == "none" else ResidualEncoderLayer
            return wrap_layer(kind(cfg, self.config, number), cfg)
        layer = SolvingEncoderLayer(cfg, self.config, number, self.solvers[0] if self.solvers else None)
        self.solvers.append(layer.solver)
        return wrap_layer(layer, cfg)

    def forward_scriptable(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        return_all_hiddens: bool = False,
        token_embeddings: Optional[Tensor] = None,
    ) -> Dict[str, List[Tensor]]:
        """As fairseq's; ``encoder_states`` are the embedding and what each block writes."""
        padding = src_tokens.eq(self.padding_idx)
        mask: Optional[Tensor] = None
        if bool(padding.any()):
            mask = padding
        x, embedding = self.forward_embedding(src_tokens, token_embeddings)
        x = x.masked_fill(padding.unsqueeze(-1), 0.0).transpose(0, 1)
        memory: List[Tensor] = []
        earlier: List[Tensor] = []
        outputs: List[Tensor] = []
        keeps = return_all_hiddens or self.source.reads_outputs
        if keeps:
            outputs.append(x)
        for layer in self.layers:
            x, memory, earlier = layer(x, memory, earlier, mask)
            if keeps:
                outputs.append(x)
        x = self.end_mixing(x, list(memory))
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        nothing: List[Tensor] = []
        return {
            "encoder_out": self.source(x, outputs),
            "encoder_padding_mask": [padding],
            "encoder_embedding": [embedding],
            "encoder_states": outputs if return_all_hiddens else nothing,
            "fc_results": nothing,
            "src_tokens": nothing,
            "src_lengths": [padding.logical_not().sum(1, True, dtype=torch.int32)],
        }

    @torch.jit.export
    def reorder_encoder_out(self, encoder_out: Dict[str, List[Tensor]], new_order: Tensor):
        """As fairseq's, which knows one source only."""
        reordered: Dict[str, List[Tensor]] = {}
        for name, tensors in encoder_out.items():
            dim = 1 if name in ("encoder_out", "encoder_states") else 0
            reordered[name] = [one.index_select(dim, new_order) for one in tensors]
        return reordered


class MixingDecoder(SkipDecoder):
    """See :class:`.SkipDecoder`."""

    def __init__(self, cfg, dictionary, embed_tokens, config: StackConfig, no_encoder_attn: bool = False):
        super().__init__(cfg, dictionary, embed_tokens, config, no_encoder_attn)
        slots = len(decoder_slots(no_encoder_attn))
        where = {"side": config.side, "layer": len(config.layers), "slots": slots}
        self.end_mixing = build_mixing(self.embed_dim, config.ffn, **where)

    def build_decoder_layer(self, cfg, no_encoder_attn: bool = False) -> nn.Module:
        kind = MixingDecoderLayer if self.config.value == "none" else ResidualDecoderLayer
        return wrap_layer(kind(cfg, self.config, self.unbuilt.pop(0), no_encoder_attn), cfg)

    def embed(
        self,
        prev_output_tokens: Tensor,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
    ) -> Tensor:
        """(positions, batch, dim); with a state of the newest position only."""
        positions: Optional[Tensor] = None
        if self.embed_positions is not None:
            positions = self.embed_positions(prev_output_tokens, incremental_state=incremental_state)
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
            if positions is not None:
                positions = positions[:, -1:]
        x = self.embed_scale * self.embed_tokens(prev_output_tokens.contiguous())
        if self.quant_noise is not None:
            x = self.quant_noise(x)
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if positions is not None:
            x = x + positions
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x).transpose(0, 1)

    def extract_features_scriptable(
        self,
        prev_output_tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        full_context_alignment: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
    ):
        """As fairseq's; ``inner_states`` are the embedding and what each block writes."""
        if alignment_layer is None:
            alignment_layer = self.num_layers - 1
        sources: List[Tensor] = []
        source_mask: Optional[Tensor] = None
        if encoder_out is not None:
            sources = encoder_out["encoder_out"]
            if len(encoder_out["encoder_padding_mask"]) > 0:
                source_mask = encoder_out["encoder_padding_mask"][0]
        x = self.embed(prev_output_tokens, incremental_state)
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
        padding = prev_output_tokens.eq(self.padding_idx)
        mask: Optional[Tensor] = None
        if self.cross_self_attention or bool(padding.any()):
            mask = padding
        future: Optional[Tensor] = None
        if incremental_state is None and not full_context_alignment:
            future = self.buffered_future_mask(x)

        attn: Optional[Tensor] = None
        memory: List[Tensor] = []
        earlier: List[Tensor] = []
        states: List[Optional[Tensor]] = [x]
        for number, layer in enumerate(self.layers):
            aligned = number == alignment_layer
            source: Optional[Tensor] = None
            if len(sources) > 0:
                source = sources[min(number, len(sources) - 1)]  # its own, or the one of all
            x, memory, earlier, weights = layer(
                x, memory, earlier, source, source_mask, incremental_state, future, mask, aligned
            )
            states.append(x)
            if weights is not None and aligned:
                attn = weights.float().to(x)
        if attn is not None:
            attn = attn[:alignment_heads].mean(0)
        x = self.end_mixing(x, list(memory))
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        x = x.transpose(0, 1)
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        return x, {"attn": [attn], "inner_states": states}


def stack_classes(config: StackConfig) -> Tuple[type, type]:
    """The classes of an encoder and a decoder with this wiring."""
    return (MixingEncoder, MixingDecoder) if config.own_loop() else (SkipEncoder, SkipDecoder)
