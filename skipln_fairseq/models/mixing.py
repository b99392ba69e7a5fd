"""Stacks whose blocks read more than the output of the block before, or are applied more than once: ``--depth-mixing``
and ``--encoder-solver``.

fairseq's loops know nothing between two layers, so these stacks have their own; all others keep fairseq's. What is
remembered is a list of tensors that lives for one pass.
"""

from typing import Dict, List, Optional, Tuple

import torch
from fairseq.distributed import fsdp_wrap
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..nn import Solver, build_mixing, build_solver
from .config import StackConfig
from .layers import SkipDecoderLayer, SkipEncoderLayer
from .stacks import SkipDecoder, SkipEncoder

__all__ = ["MixingDecoder", "MixingEncoder", "stack_classes"]


class _MixingLayer:
    """Mixed into a layer: a mixing stands before each sub-layer; what is remembered goes in and comes out."""

    recomputed = False

    def mix(self, config: StackConfig, number: int, slots: Tuple[str, ...]) -> None:
        """Build the mixings."""
        for index, slot in enumerate(slots):
            where = {"side": config.side, "layer": number, "index": index, "slots": len(slots)}
            setattr(self, f"{slot}_mixing", build_mixing(self.embed_dim, config.ffn, **where))

    def __call__(self, *args, **kwargs):
        # in ``__call__``, which TorchScript never sees; fairseq's checkpointing loses gradients of tensors in lists
        if self.recomputed and torch.is_grad_enabled():
            return checkpoint(super().__call__, *args, use_reentrant=False, **kwargs)
        return super().__call__(*args, **kwargs)


def _wrap_layer(layer: nn.Module, cfg) -> nn.Module:
    """As the stacks without mixing do: activation checkpointing, then FSDP."""
    layer.recomputed = cfg.checkpoint_activations
    return fsdp_wrap(layer, min_num_params=0 if layer.recomputed else cfg.min_params_to_wrap)


class MixingEncoderLayer(_MixingLayer, SkipEncoderLayer):
    """See :class:`.SkipEncoderLayer`."""

    def __init__(self, cfg, config: StackConfig, number: int = 0):
        super().__init__(cfg, config, number)
        self.mix(config, number, ("self_attn", "ffn"))

    def forward(
        self, x: Tensor, memory: List[Tensor], encoder_padding_mask: Optional[Tensor]
    ) -> Tuple[Tensor, List[Tensor]]:
        """
        Args:
            x: what was written last, (src_len, batch, dim).
            memory: what the mixings before remembered; it is left as it is.
            encoder_padding_mask: (batch, src_len), true at padding, or None.

        Returns:
            what is written, (src_len, batch, dim); the memory from then on
        """
        memory = list(memory)
        x = self.self_attn_mixing(x, memory)
        x = self.attend_to_itself(x, encoder_padding_mask, None)
        x = self.ffn_mixing(x, memory)
        return self.feed_forward(x, encoder_padding_mask), memory


class SolvingEncoderLayer(MixingEncoderLayer):
    """The block after the mixing, applied as its solver says.

    Args:
        cfg, config, number: see :class:`.SkipEncoderLayer`.
        first: the solver of the stack's first layer, None while that is built.
    """

    def __init__(self, cfg, config: StackConfig, number: int, first: Optional[Solver]):
        super().__init__(cfg, config, number)
        self.solver = build_solver(self.embed_dim, config.ffn, first)

    def forward(
        self, x: Tensor, memory: List[Tensor], encoder_padding_mask: Optional[Tensor]
    ) -> Tuple[Tensor, List[Tensor]]:
        """See :meth:`MixingEncoderLayer.forward`."""
        memory = list(memory)
        x = self.self_attn_mixing(x, memory)
        outputs: List[Tensor] = []
        for _ in range(self.solver.stages):
            y = self.attend_to_itself(self.solver.read(x, outputs), encoder_padding_mask, None)
            outputs.append(self.feed_forward(y, encoder_padding_mask))
        return self.solver(x, outputs), memory


class MixingDecoderLayer(_MixingLayer, SkipDecoderLayer):
    """See :class:`.SkipDecoderLayer`."""

    def __init__(self, cfg, config: StackConfig, number: int = 0, no_encoder_attn: bool = False):
        super().__init__(cfg, config, number, no_encoder_attn)
        self.mix(config, number, decoder_slots(no_encoder_attn))

    def forward(
        self,
        x: Tensor,
        memory: List[Tensor],
        encoder_out: Optional[Tensor] = None,
        encoder_padding_mask: Optional[Tensor] = None,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        self_attn_mask: Optional[Tensor] = None,
        self_attn_padding_mask: Optional[Tensor] = None,
        need_attn: bool = False,
    ) -> Tuple[Tensor, List[Tensor], Optional[Tensor]]:
        """
        Args:
            x: what was written last, (tgt_len, batch, dim).
            memory: what the mixings before remembered, of these positions; it is left as it is.
            need_attn: return the cross-attention weights of each head.

        The others are those of :meth:`.SkipDecoderLayer.forward`.

        Returns:
            what is written, (tgt_len, batch, dim); the memory from then on; the attention weights or None
        """
        memory = list(memory)
        x = self.self_attn_mixing(x, memory)
        x, attn = self.attend_to_itself(
            x, encoder_out, encoder_padding_mask, incremental_state, self_attn_mask, self_attn_padding_mask
        )
        if self.encoder_attn is not None and encoder_out is not None:
            x = self.cross_attn_mixing(x, memory)
            x, attn = self.attend_to_source(
                x,
                encoder_out,
                encoder_padding_mask,
                incremental_state,
                self_attn_padding_mask,
                need_attn,
                need_attn,
            )
        x = self.ffn_mixing(x, memory)
        return self.feed_forward(x, self_attn_padding_mask), memory, attn


def decoder_slots(no_encoder_attn: bool) -> Tuple[str, ...]:
    """The sub-layers of a decoder's block."""
    return ("self_attn", "ffn") if no_encoder_attn else ("self_attn", "cross_attn", "ffn")


class MixingEncoder(SkipEncoder):
    """See :class:`.SkipEncoder`."""

    def __init__(self, cfg, dictionary, embed_tokens, config: StackConfig):
        self.solvers = []  # while the layers are built
        super().__init__(cfg, dictionary, embed_tokens, config)
        del self.solvers
        where = {"side": config.side, "layer": len(config.layers), "slots": 2}
        self.end_mixing = build_mixing(embed_tokens.embedding_dim, config.ffn, **where)

    def build_encoder_layer(self, cfg) -> nn.Module:
        number = self.unbuilt.pop(0)
        if self.config.ffn.solver == "none":
            return _wrap_layer(MixingEncoderLayer(cfg, self.config, number), cfg)
        layer = SolvingEncoderLayer(cfg, self.config, number, self.solvers[0] if self.solvers else None)
        self.solvers.append(layer.solver)
        return _wrap_layer(layer, cfg)

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
        states: List[Tensor] = []
        if return_all_hiddens:
            states.append(x)
        for layer in self.layers:
            x, memory = layer(x, memory, mask)
            if return_all_hiddens:
                states.append(x)
        x = self.end_mixing(x, list(memory))
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        nothing: List[Tensor] = []
        return {
            "encoder_out": [x],
            "encoder_padding_mask": [padding],
            "encoder_embedding": [embedding],
            "encoder_states": states,
            "fc_results": nothing,
            "src_tokens": nothing,
            "src_lengths": [padding.logical_not().sum(1, True, dtype=torch.int32)],
        }


class MixingDecoder(SkipDecoder):
    """See :class:`.SkipDecoder`."""

    def __init__(self, cfg, dictionary, embed_tokens, config: StackConfig, no_encoder_attn: bool = False):
        super().__init__(cfg, dictionary, embed_tokens, config, no_encoder_attn)
        slots = len(decoder_slots(no_encoder_attn))
        where = {"side": config.side, "layer": len(config.layers), "slots": slots}
        self.end_mixing = build_mixing(self.embed_dim, config.ffn, **where)

    def build_decoder_layer(self, cfg, no_encoder_attn: bool = False) -> nn.Module:
        return _wrap_layer(MixingDecoderLayer(cfg, self.config, self.unbuilt.pop(0), no_encoder_attn), cfg)

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
        source: Optional[Tensor] = None
        source_mask: Optional[Tensor] = None
        if encoder_out is not None:
            if len(encoder_out["encoder_out"]) > 0:
                source = encoder_out["encoder_out"][0]
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
        states: List[Optional[Tensor]] = [x]
        for number, layer in enumerate(self.layers):
            aligned = number == alignment_layer
            x, memory, weights = layer(
                x, memory, source, source_mask, incremental_state, future, mask, aligned
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
    plain = config.ffn.mixing == config.ffn.solver == "none"
    return (SkipEncoder, SkipDecoder) if plain else (MixingEncoder, MixingDecoder)
