"""fairseq's softmax attention, quicker where neither its weights nor a cache of keys is asked for."""

import copy
from typing import Dict, Optional, Tuple

from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from ..nn.attention.softmax import additive_mask, softmax_attention

__all__ = ["FastAttention"]


class FastAttention(MultiheadAttention):
    """fairseq's attention with :func:`softmax_attention` between its projections, in training and teacher forcing.

    Parameters and their names are fairseq's. Outputs and gradients are fairseq's up to rounding at real positions; a
    query that may attend to nothing gets a finite output. Everything else is fairseq's own computation: incremental
    decoding, attention weights, TorchScript.

    Attributes:
        causal: whether each ``attn_mask`` of this module is (time, time) and hides later positions and nothing else,
            as the layer knows that builds it; without padding it is then not read.
    """

    causal = False

    @classmethod
    def take(cls, attention: MultiheadAttention) -> MultiheadAttention:
        """Make this of fairseq's module, which keeps its parameters; one with more to it is left as it is.

        More are a subclass's sparsity, xFormers, keys of its own, and quantisation noise, which fairseq's training adds
        in the attention to the encoder and not in self-attention.
        """
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        more = attention.bias_k is not None or attention.add_zero_attn or attention.use_xformers
        more = more or any(projection._forward_pre_hooks for projection in projections)
        if type(attention) is MultiheadAttention and not more:
            attention.__class__ = cls
        return attention

    def __prepare_scriptable__(self) -> MultiheadAttention:
        """What TorchScript compiles, and leaves in the model in the place of this: fairseq's own module."""
        reference = copy.copy(self)
        reference.__class__ = MultiheadAttention
        return reference

    def forward(
        self,
        query: Tensor,
        key: Optional[Tensor],
        value: Optional[Tensor],
        key_padding_mask: Optional[Tensor] = None,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: Optional[Tensor] = None,
        before_softmax: bool = False,
        need_head_weights: bool = False,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """As fairseq's: (time, batch, dim) tensors, a (batch, keys) mask of padding, a (time, keys) additive mask."""
        more = incremental_state is not None or need_weights or before_softmax or need_head_weights
        if not more and self.knows(query, key, value, key_padding_mask, attn_mask):
            return self.attend(query, key, value, key_padding_mask, attn_mask), None
        return super().forward(
            query,
            key,
            value,
            key_padding_mask,
            incremental_state,
            need_weights,
            static_kv,
            attn_mask,
            before_softmax,
            need_head_weights,
        )

    def knows(
        self,
        query: Tensor,
        key: Optional[Tensor],
        value: Optional[Tensor],
        padding: Optional[Tensor],
        mask: Optional[Tensor],
    ) -> bool:
        """Whether keys, values and masks have the shapes of training: keys for each row of queries, plain masks.

        And whether the projections are what they were built as: ``--quant-noise-scalar`` puts others in their place.
        """
        projections = (self.q_proj, self.k_proj, self.v_proj, self.out_proj)
        return (
            all(isinstance(one, nn.Linear) and not one._forward_hooks for one in projections)
            and key is not None
            and value is not None
            and key.shape[:2] == value.shape[:2]  # which torch's form does not check
            and key.size(1) == query.size(1)
            and (self.beam_size == 1 or not self.encoder_decoder_attention)
            and (padding is None or padding.dim() == 2)
            and (mask is None or (mask.dim() == 2 and mask.is_floating_point() and not mask.requires_grad))
            and not self.onnx_trace
            and query.device.type != "xla"
        )

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding: Optional[Tensor],
        mask: Optional[Tensor],
    ) -> Tensor:
        q, k, v = (
            x.unflatten(-1, (self.num_heads, self.head_dim))
            for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        )
        dropout = self.dropout_module
        out = softmax_attention(
            *(q, k, v),
            additive_mask(None if padding is None else padding.bool(), mask, q.dtype),
            causal=self.causal and mask is not None and padding is None,
            dropout=dropout.p if dropout.training or dropout.apply_during_inference else 0.0,
        )
        return self.out_proj(out)
