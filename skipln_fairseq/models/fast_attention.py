"""fairseq's softmax attention, quicker in training and teacher forcing, and in incremental decoding on a CPU."""

import copy
from collections.abc import Callable
from typing import Dict, Optional, Tuple

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from ..nn.attention.softmax import additive_mask, softmax_attention
from ..nn.kernels.decode import Records, attend, fits
from ..nn.linear import join_linears
from ..nn.plain import is_plain
from .beams import Beams

__all__ = ["FastAttention"]


def _is_called(projection: nn.Module) -> bool:
    """Whether it is a map that is called, and not one of which fairseq reads the parameters.

    ``--quant-noise-scalar`` puts others in the place of linear maps, and hooks on those; what dynamic quantisation puts
    there has no parameters to be read.
    """
    linear = isinstance(projection, nn.Linear) or not isinstance(getattr(projection, "weight", None), Tensor)
    return linear and not projection._forward_hooks


class FastAttention(MultiheadAttention):
    """fairseq's attention with :func:`softmax_attention` between its projections, in training and teacher forcing.

    Parameters and their names are fairseq's. Outputs and gradients are fairseq's up to rounding at real positions; a
    query that may attend to nothing gets a finite output. Incremental decoding on a CPU keeps keys and values in
    :class:`.beams.Beams`. Everything else is fairseq's own computation: attention weights in training, TorchScript,
    decoding on other devices and with ``--retain-dropout``.

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
        if incremental_state is not None and self.decodes(query) and not before_softmax:
            beams = Beams.of(incremental_state)
            read = self.read_source if self.encoder_decoder_attention else self.read_itself
            weighted = need_weights or need_head_weights
            out, weights = read(query, key, value, key_padding_mask, beams, weighted)
            if weights is not None:
                weights = weights[:, :, None] if need_head_weights else weights.mean(0)[:, None]
            return out, weights
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

    def decodes(self, like: Tensor) -> bool:
        """Whether incremental decoding is by :class:`.beams.Beams`, for tensors like this one.

        It is settled when decoding starts: what a decoding has cached in one form is not read in the other one.
        """
        projections = (self.q_proj, self.k_proj, self.v_proj, self.out_proj)
        return (
            (self.causal or self.encoder_decoder_attention)
            and not torch.is_grad_enabled()
            and fits(like)
            and not self.training
            and not self.dropout_module.apply_during_inference
            and all(map(_is_called, projections))
            and not self.onnx_trace
        )

    def read_itself(
        self, query: Tensor, key, value: Tensor, padding: Tensor | None, beams: Beams, weights: bool
    ):
        """A step of self-attention: (1, rows, dim), and its weights (heads, rows, positions) if asked for."""
        rows, dim = query.shape[1:]
        records = beams.memories.setdefault(id(self), Records(dim, 2 * dim))
        if beams.positions == len(records):  # the first attention of this step
            beams.advance(rows, padding)
        record = self.joined("q_proj", "k_proj", "v_proj")(query[0], query[0], value[0])
        records.append(record)
        out, found = attend(record[:, :dim], records, beams.table, self.num_heads, weights)
        return self.out_proj(out)[None], found

    def read_source(
        self, query: Tensor, key: Tensor, value, padding: Tensor | None, beams: Beams, weights: bool
    ):
        """A step of attention to the encoder, whose keys and values are computed in the first."""
        rows, dim = query.shape[1:]
        records = beams.memories.get(id(self))
        if records is None:
            source = beams.columns(key, padding, rows, self.beam_size)
            records = beams.memories[id(self)] = Records(0, dim)
            for position in self.joined("k_proj", "v_proj")(source, source):
                records.append(position)
        table = beams.source_table(len(records))
        out, found = attend(self.q_proj(query[0]), records, table, self.num_heads, weights)
        return self.out_proj(out)[None], found

    def joined(self, *names: str) -> Callable[..., Tensor]:
        """Projections as one function of an input for each, whose output has theirs one after another.

        Joint ones have one input: plain projections are those of attention to one thing.
        """
        joint = self.__dict__.get("joint", {}).get(names)
        # in a copy of this module alone the projections have memory of their own
        if joint is not None and joint.weight.data_ptr() == getattr(self, names[0]).weight.data_ptr():
            return lambda x, *same: joint(x)
        return lambda *inputs: torch.cat(
            [getattr(self, name)(x) for name, x in zip(names, inputs, strict=True)], -1
        )

    def join(self) -> list[nn.Linear]:
        """Let what is projected together in decoding be one product from now on, and return those products.

        Parameters stay what and where they are, but for their memory, which becomes that of the product.
        """
        names = ("k_proj", "v_proj") if self.encoder_decoder_attention else ("q_proj", "k_proj", "v_proj")
        projections = [getattr(self, name) for name in names]
        self.part()  # what a copied module has brought along
        decodes = self.causal or self.encoder_decoder_attention
        plain = all(is_plain(one, nn.Linear) for one in projections)
        if not (decodes and plain and len({one.bias is None for one in projections}) == 1):
            return []
        joint = join_linears(projections)
        self.__dict__["joint"] = {names: joint}  # no module of this one: state dicts stay fairseq's
        return [joint]

    def part(self) -> None:
        """Take :meth:`join` back."""
        self.__dict__.pop("joint", None)

    def knows(
        self,
        query: Tensor,
        key: Optional[Tensor],
        value: Optional[Tensor],
        padding: Optional[Tensor],
        mask: Optional[Tensor],
    ) -> bool:
        """Whether keys, values and masks have the shapes of training: keys for each row of queries, plain masks.

        And whether the projections are what is called.
        """
        projections = (self.q_proj, self.k_proj, self.v_proj, self.out_proj)
        return (
            all(map(_is_called, projections))
            and key is not None
            and value is not None
            and key.shape[:2] == value.shape[:2]  # which torch's form does not check
            and key.size(1) == query.size(1)
            and (self.beam_size == 1 or not self.encoder_decoder_attention)
            and (padding is None or padding.dim() == 2)
            and (mask is None or (mask.dim() == 2 and mask.is_floating_point() and not mask.requires_grad))
            and not self.onnx_trace
            and query.device.type != "xla"
            and not self.dropout_module.apply_during_inference  # as fairseq draws it, from the same seed
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
            dropout=dropout.p if dropout.training else 0.0,
        )
        return self.out_proj(out)
