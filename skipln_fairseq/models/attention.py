"""The attention axis: fairseq's softmax attention, or FAVOR+ in its place and with its parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor

from ..common.errors import UserError
from ..nn.attention import Favor, FavorConfig

__all__ = ["ATTENTIONS", "AttentionConfig", "FavorAttention", "number_draws"]


@dataclass(frozen=True)
class AttentionConfig:
    """One kind of attention in a stack.

    Attributes:
        type: a name in ``ATTENTIONS``.
        favor: the numbers of FAVOR+; softmax has none.
    """

    type: str = "softmax"
    favor: FavorConfig = field(default_factory=FavorConfig)


class FavorAttention(MultiheadAttention):
    """FAVOR+ between fairseq's own projections, whose parameters keep their names.

    The decoder's self-attention is causal where fairseq passes its mask, and in incremental decoding keeps sums in the
    place of all keys and values; attention to the encoder keeps the encoder's sums. There are no attention weights:
    where they are asked for, None comes back, and who prints alignments is told so. Dropout of attention
    weights has nothing to act on. Computed in single precision at least.
    """

    @classmethod
    def take(cls, attention: MultiheadAttention, config: AttentionConfig) -> "FavorAttention":
        """Make this of fairseq's module: it keeps its projections, and whatever is attached to them."""
        attention.__class__ = cls
        attention.favor = Favor(attention.head_dim, config.favor)
        return attention

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
        """As fairseq's: (time, batch, dim) tensors, a (batch, time) mask; any ``attn_mask`` means causal."""
        if self.encoder_decoder_attention:
            out = self.attend_encoder(query, key, key_padding_mask, incremental_state)
        else:
            assert value is not None
            out = self.attend_itself(query, value, key_padding_mask, incremental_state, attn_mask is not None)
        return self.out_proj(out.type_as(query)), None

    def attend_itself(
        self,
        x: Tensor,
        value: Tensor,
        padding: Optional[Tensor],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
        causal: bool,
    ) -> Tensor:
        scale = self.head_dim**-0.25
        q, k, v = (
            self.heads(self.q_proj(x)) * scale,
            self.heads(self.k_proj(x)) * scale,
            self.heads(self.v_proj(value)),
        )
        left_out = self.left_out(x, padding)
        if incremental_state is not None:
            saved = self._get_input_buffer(incremental_state)
            state, largest = self.favor.start(v)
            if "state" in saved:
                saved_state, saved_largest = saved["state"], saved["largest"]
                assert saved_state is not None
                assert saved_largest is not None
                state, largest = saved_state, saved_largest
            out, state, largest = self.favor.step(q, k, v, left_out, state, largest)
            saved["state"], saved["largest"] = state, largest
            self._set_input_buffer(incremental_state, saved)
        elif causal:
            out = self.favor.causal(q, k, v, left_out)
        else:
            out = self.favor(q, k, v, left_out)
        return out.permute(2, 0, 1, 3).flatten(2)

    def attend_encoder(
        self,
        x: Tensor,
        memory: Optional[Tensor],
        padding: Optional[Tensor],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
    ) -> Tensor:
        saved: Dict[str, Optional[Tensor]] = {}
        if incremental_state is not None:
            saved = self._get_input_buffer(incremental_state)
        sums = saved.get("sums", None)
        if sums is None:
            assert memory is not None
            sums = self.summarise_encoder(memory, padding, x.size(1))
            if incremental_state is not None:
                saved["sums"] = sums
                self._set_input_buffer(incremental_state, saved)
        # after set_beam_size there is one entry a sentence for all its beams, which become more of its queries
        beams = x.size(1) // sums.size(0)
        q = self.heads(self.q_proj(x)) * self.head_dim**-0.25
        q = q.unflatten(0, [sums.size(0), beams]).transpose(1, 2).flatten(2, 3)
        out = self.favor.read(q, sums)
        out = out.unflatten(2, [beams, x.size(0)]).transpose(1, 2).flatten(0, 1)
        return out.permute(2, 0, 1, 3).flatten(2)

    def summarise_encoder(self, memory: Tensor, padding: Optional[Tensor], batch: int) -> Tensor:
        if self.beam_size > 1 and batch == memory.size(1):
            memory = memory.view(memory.size(0), -1, self.beam_size, memory.size(2))[:, :, 0]
            if padding is not None:
                padding = padding.view(-1, self.beam_size, padding.size(1))[:, 0]
        k, v = self.heads(self.k_proj(memory)) * self.head_dim**-0.25, self.heads(self.v_proj(memory))
        return self.favor.summarise(k, v, self.left_out(memory, padding))

    def heads(self, x: Tensor) -> Tensor:
        """(time, batch, dim) to (batch, heads, time, d), in single precision at least."""
        if x.dtype != torch.float64:
            x = x.float()
        return x.view(x.size(0), x.size(1), self.num_heads, self.head_dim).permute(1, 2, 0, 3)

    def left_out(self, x: Tensor, padding: Optional[Tensor]) -> Tensor:
        """The mask of keys to leave out, (batch, time)."""
        if padding is None:
            return torch.zeros(x.size(1), x.size(0), dtype=torch.bool, device=x.device)
        return padding.to(torch.bool)

    def make_generation_fast_(self, need_attn: Optional[bool] = False, **kwargs):
        if need_attn and self.encoder_decoder_attention:
            raise UserError(
                "--print-alignment: --cross-attention-type favor has no attention weights; softmax has"
            )


def number_draws(model: torch.nn.Module) -> None:
    """Let each FAVOR+ layer of a fresh model draw its own ω."""
    favors = (module for module in model.modules() if isinstance(module, Favor))
    for layer, favor in enumerate(favors):
        favor.layer = layer
        favor.draw(0)


ATTENTIONS: dict[str, Callable[[MultiheadAttention, AttentionConfig], MultiheadAttention]] = {
    "softmax": lambda attention, config: attention,
    "favor": FavorAttention.take,
}
