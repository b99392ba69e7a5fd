"""One encoder and one decoder layer: fairseq's sub-layers, wired by a :class:`Connection`.

The sub-layers F (attention, feed-forward) and their parameters are fairseq's own, built by its
layer classes; only the forward pass is written out here. Tensors are (time, batch, dim).
"""

from typing import Dict, List, Optional, Tuple

import torch
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase, TransformerEncoderLayerBase
from torch import Tensor, nn

from ..common.errors import UserError
from .config import StackConfig
from .connected import Connected, keep_dropout_names, transposed

__all__ = ["SkipDecoderLayer", "SkipEncoderLayer"]


class SkipEncoderLayer(Connected, TransformerEncoderLayerBase):
    """Self-attention and feed-forward, each inside a connection.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        config: the wiring of both sub-layers.
        number: of the layer in its stack, from 0, as the model was made.
    """

    def __init__(self, cfg, config: StackConfig, number: int = 0):
        super().__init__(cfg)
        # fairseq 0.12.2 would otherwise decode this layer with a fused torch kernel that knows
        # neither our connections nor our norms; later releases do not have the attribute
        self.can_use_fastpath = False
        self.connect(config, number, ("self_attn", "ffn"))
        keep_dropout_names(self, TransformerEncoderLayerBase)

    def forward(
        self, x: Tensor, encoder_padding_mask: Optional[Tensor], attn_mask: Optional[Tensor] = None
    ) -> Tensor:
        """
        Args:
            x: (src_len, batch, dim).
            encoder_padding_mask: (batch, src_len), true at padding, or None.
            attn_mask: (src_len, src_len), non-zero where attention is forbidden, or None.

        Returns:
            (src_len, batch, dim)
        """
        x = self.attend_to_itself(x, encoder_padding_mask, attn_mask)
        return self.feed_forward(x, encoder_padding_mask)

    def attend_to_itself(
        self,
        x: Tensor,
        encoder_padding_mask: Optional[Tensor],
        attn_mask: Optional[Tensor],
        earlier: Optional[List[Tensor]] = None,
    ) -> Tensor:
        """The first sub-layer, in its connection; ``earlier`` are values that blocks before remembered."""
        if attn_mask is not None:
            # finite, so that a row with nothing to attend to does not turn into NaN
            forbidden = -1e8 if x.dtype == torch.float32 else -1e4
            attn_mask = attn_mask.masked_fill(attn_mask.to(torch.bool), forbidden)

        padding = transposed(encoder_padding_mask)
        h = self.self_attn_layer_norm.enter(x, padding)
        h, _ = self.self_attn(
            query=h,
            key=h,
            value=self.values_of(h, earlier),
            key_padding_mask=encoder_padding_mask,
            need_weights=False,
            attn_mask=attn_mask,
        )
        return self.self_attn_layer_norm.leave(h, x, padding, self.drop_rate())

    def feed_forward(self, x: Tensor, encoder_padding_mask: Optional[Tensor]) -> Tensor:
        """The last sub-layer, in its connection."""
        padding = transposed(encoder_padding_mask)
        h = self.final_layer_norm.enter(x, padding)
        h = self.activation_dropout_module(self.activation_fn(self.fc1(h)))
        return self.final_layer_norm.leave(self.fc2(h), x, padding, self.drop_rate())


class SkipDecoderLayer(Connected, TransformerDecoderLayerBase):
    """Self-attention, cross-attention and feed-forward, each inside a connection.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        config: the wiring of all three sub-layers.
        number: of the layer in its stack, from 0, as the model was made.
        no_encoder_attn: leave the cross-attention out.
    """

    def __init__(self, cfg, config: StackConfig, number: int = 0, no_encoder_attn: bool = False):
        super().__init__(cfg, no_encoder_attn)
        slots = ("self_attn", "ffn") if self.encoder_attn is None else ("self_attn", "cross_attn", "ffn")
        self.connect(config, number, slots)
        # what :meth:`forward` says of its mask, for whom it spares the reading
        self.self_attn.causal = not self.cross_self_attention
        # NormFormer's norms (Shleifer et al. 2021, arXiv:2110.09456), in the models that have flags for them
        self.attn_ln = self.attn_ln or nn.Identity()
        self.ffn_layernorm = self.ffn_layernorm or nn.Identity()
        keep_dropout_names(self, TransformerDecoderLayerBase)

    def prepare_for_onnx_export_(self):
        raise UserError("ONNX export is not supported; TorchScript is (--export, torch.jit.script)")

    def forward(
        self,
        x: Tensor,
        encoder_out: Optional[Tensor] = None,
        encoder_padding_mask: Optional[Tensor] = None,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        self_attn_mask: Optional[Tensor] = None,
        self_attn_padding_mask: Optional[Tensor] = None,
        need_attn: bool = False,
        need_head_weights: bool = False,
    ):
        """
        Args:
            x: (tgt_len, batch, dim); with ``incremental_state`` the newest position only.
            encoder_out: (src_len, batch, dim) or None.
            encoder_padding_mask: (batch, src_len), true at padding, or None.
            incremental_state: fairseq's cache of keys and values, written by the attentions.
            self_attn_mask: (tgt_len, tgt_len), −inf at later positions, or None.
            self_attn_padding_mask: (batch, tgt_len), true at padding, or None.
            need_attn: return the cross-attention weights.
            need_head_weights: return them for each head, not their mean.

        Returns:
            (tgt_len, batch, dim); the cross-attention weights or None; None (stock's ONNX slot)
        """
        x, attn = self.attend_to_itself(
            x, encoder_out, encoder_padding_mask, incremental_state, self_attn_mask, self_attn_padding_mask
        )
        if self.encoder_attn is not None and encoder_out is not None:
            x, attn = self.attend_to_source(
                x,
                encoder_out,
                encoder_padding_mask,
                incremental_state,
                self_attn_padding_mask,
                need_attn,
                need_head_weights,
            )
        return self.feed_forward(x, self_attn_padding_mask), attn, None

    def attend_to_itself(
        self,
        x: Tensor,
        encoder_out: Optional[Tensor],
        encoder_padding_mask: Optional[Tensor],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
        self_attn_mask: Optional[Tensor],
        self_attn_padding_mask: Optional[Tensor],
        earlier: Optional[List[Tensor]] = None,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """The first sub-layer, in its connection; and the attention's weights, if it gives any.

        ``earlier`` are values that blocks before remembered.
        """
        padding = transposed(self_attn_padding_mask)
        h = self.self_attn_layer_norm.enter(x, padding)
        memory, self_attn_mask, self_attn_padding_mask = self._self_attn_memory(
            h, encoder_out, encoder_padding_mask, incremental_state, self_attn_mask, self_attn_padding_mask
        )
        h, attn = self.self_attn(
            query=h,
            key=memory,
            value=self.values_of(memory, earlier),
            key_padding_mask=self_attn_padding_mask,
            incremental_state=incremental_state,
            need_weights=False,
            attn_mask=self_attn_mask,
        )
        h = self.attn_ln(self._scale_heads(h))
        return self.self_attn_layer_norm.leave(h, x, padding, self.drop_rate()), attn

    def attend_to_source(
        self,
        x: Tensor,
        encoder_out: Tensor,
        encoder_padding_mask: Optional[Tensor],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
        self_attn_padding_mask: Optional[Tensor],
        need_attn: bool,
        need_head_weights: bool,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """The cross-attention, in its connection; and its weights, if they are needed."""
        padding = transposed(self_attn_padding_mask)
        h = self.encoder_attn_layer_norm.enter(x, padding)
        h, attn = self.encoder_attn(
            query=h,
            key=encoder_out,
            value=encoder_out,
            key_padding_mask=encoder_padding_mask,
            incremental_state=incremental_state,
            static_kv=True,
            need_weights=need_attn or need_head_weights or (not self.training and self.need_attn),
            need_head_weights=need_head_weights,
        )
        return self.encoder_attn_layer_norm.leave(h, x, padding, self.drop_rate()), attn

    def feed_forward(self, x: Tensor, self_attn_padding_mask: Optional[Tensor]) -> Tensor:
        """The last sub-layer, in its connection."""
        padding = transposed(self_attn_padding_mask)
        h = self.final_layer_norm.enter(x, padding)
        h = self.activation_dropout_module(self.activation_fn(self.fc1(h)))
        h = self.fc2(self.ffn_layernorm(h))
        return self.final_layer_norm.leave(h, self._scale_residual(x), padding, self.drop_rate())

    def _scale_heads(self, h: Tensor) -> Tensor:
        """NormFormer's learned factor of each head."""
        if self.c_attn is None:
            return h
        return torch.einsum("tbhd,h->tbhd", h.unflatten(-1, [self.nh, self.head_dim]), self.c_attn).flatten(
            -2
        )

    def _scale_residual(self, x: Tensor) -> Tensor:
        """NormFormer's learned factor of the feed-forward's x."""
        if self.w_resid is None:
            return x
        return self.w_resid * x

    def _self_attn_memory(
        self,
        h: Tensor,
        encoder_out: Optional[Tensor],
        encoder_padding_mask: Optional[Tensor],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
        self_attn_mask: Optional[Tensor],
        self_attn_padding_mask: Optional[Tensor],
    ) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
        """What self-attention attends to, and the masks over it.

        That is ``h`` itself; with ``--cross-self-attention`` the encoder's output stands before
        it, except in later decoding steps, where the cache already holds it.
        """
        if not self.cross_self_attention or self._has_cached_keys(incremental_state):
            return h, self_attn_mask, self_attn_padding_mask

        assert encoder_out is not None
        if self_attn_mask is not None:
            every_source = h.new_zeros(h.size(0), encoder_out.size(0))
            self_attn_mask = torch.cat((every_source, self_attn_mask), dim=1)
        if self_attn_padding_mask is not None:
            if encoder_padding_mask is None:
                encoder_padding_mask = self_attn_padding_mask.new_zeros(
                    encoder_out.size(1), encoder_out.size(0)
                )
            self_attn_padding_mask = torch.cat((encoder_padding_mask, self_attn_padding_mask), dim=1)
        return torch.cat((encoder_out, h), dim=0), self_attn_mask, self_attn_padding_mask

    def _has_cached_keys(self, incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]]) -> bool:
        if incremental_state is None:
            return False
        return "prev_key" in self.self_attn._get_input_buffer(incremental_state)
