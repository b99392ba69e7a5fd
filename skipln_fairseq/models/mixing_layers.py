"""Layers of the stacks in :mod:`.mixing`: what blocks before them remembered goes in, and comes out with their own."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..nn import Solver, build_mixing, build_solver, project_before
from .config import StackConfig
from .layers import SkipDecoderLayer, SkipEncoderLayer

__all__ = [
    "MixingDecoderLayer",
    "MixingEncoderLayer",
    "ResidualDecoderLayer",
    "ResidualEncoderLayer",
    "SolvingEncoderLayer",
    "decoder_slots",
    "wrap_layer",
]


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


def wrap_layer(layer: nn.Module, cfg) -> nn.Module:
    """As the stacks without mixing do, for activation checkpointing."""
    layer.recomputed = cfg.checkpoint_activations
    return layer


class MixingEncoderLayer(_MixingLayer, SkipEncoderLayer):
    """See :class:`.SkipEncoderLayer`."""

    def __init__(self, cfg, config: StackConfig, number: int = 0):
        super().__init__(cfg, config, number)
        self.mix(config, number, ("self_attn", "ffn"))

    def forward(
        self,
        x: Tensor,
        memory: List[Tensor],
        earlier: List[Tensor],
        encoder_padding_mask: Optional[Tensor],
    ) -> Tuple[Tensor, List[Tensor], List[Tensor]]:
        """
        Args:
            x: what was written last, (src_len, batch, dim).
            memory: what the mixings before remembered; it is left as it is.
            earlier: the values that the attentions before remembered; they are left as they are.
            encoder_padding_mask: (batch, src_len), true at padding, or None.

        Returns:
            what is written, (src_len, batch, dim); the memory and the values from then on
        """
        memory, earlier = list(memory), list(earlier)
        x = self.self_attn_mixing(x, memory)
        x = self.attend_to_itself(x, encoder_padding_mask, None, earlier)
        x = self.ffn_mixing(x, memory)
        return self.feed_forward(x, encoder_padding_mask), memory, earlier


class SolvingEncoderLayer(MixingEncoderLayer):
    """The block after the mixing, applied as its solver says.

    Args:
        cfg, config, number: see :class:`.SkipEncoderLayer`.
        first: the solver of the stack's first layer, None while that is built.
    """

    def __init__(self, cfg, config: StackConfig, number: int, first: Optional[Solver]):
        super().__init__(cfg, config, number)
        self.solver = build_solver(self.embed_dim, config.ffn, first, layer=number)

    def forward(
        self,
        x: Tensor,
        memory: List[Tensor],
        earlier: List[Tensor],
        encoder_padding_mask: Optional[Tensor],
    ) -> Tuple[Tensor, List[Tensor], List[Tensor]]:
        """See :meth:`MixingEncoderLayer.forward`."""
        memory = list(memory)
        x = self.self_attn_mixing(x, memory)
        outputs: List[Tensor] = []
        for _ in range(self.solver.stages):
            y = self.attend_to_itself(self.solver.read(x, outputs, memory), encoder_padding_mask, None)
            outputs.append(self.feed_forward(y, encoder_padding_mask))
        return self.solver(x, outputs, memory), memory, earlier


class MixingDecoderLayer(_MixingLayer, SkipDecoderLayer):
    """See :class:`.SkipDecoderLayer`."""

    def __init__(self, cfg, config: StackConfig, number: int = 0, no_encoder_attn: bool = False):
        super().__init__(cfg, config, number, no_encoder_attn)
        self.mix(config, number, decoder_slots(no_encoder_attn))

    def forward(
        self,
        x: Tensor,
        memory: List[Tensor],
        earlier: List[Tensor],
        encoder_out: Optional[Tensor] = None,
        encoder_padding_mask: Optional[Tensor] = None,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        self_attn_mask: Optional[Tensor] = None,
        self_attn_padding_mask: Optional[Tensor] = None,
        need_attn: bool = False,
    ) -> Tuple[Tensor, List[Tensor], List[Tensor], Optional[Tensor]]:
        """
        Args:
            x: what was written last, (tgt_len, batch, dim).
            memory: what the mixings before remembered, of these positions; it is left as it is.
            earlier: the values that the attentions before remembered, of these positions; they are left as they are.
            need_attn: return the cross-attention weights of each head.

        The others are those of :meth:`.SkipDecoderLayer.forward`.

        Returns:
            what is written, (tgt_len, batch, dim); the memory and the values from then on; the attention weights or
            None
        """
        memory, earlier = list(memory), list(earlier)
        x = self.self_attn_mixing(x, memory)
        x, attn = self.attend_to_itself(
            x,
            encoder_out,
            encoder_padding_mask,
            incremental_state,
            self_attn_mask,
            self_attn_padding_mask,
            earlier,
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
        return self.feed_forward(x, self_attn_padding_mask), memory, earlier, attn


class _ResidualLayer:
    """Mixed into a layer with mixings: its self-attention has a value residual, and is given values made before it."""

    def hand_values(self, config: StackConfig, number: int) -> None:
        """Build the value residual, and let the values be projected before it."""
        self.self_attn_values = config.make_value(number)
        project_before(self.self_attn.v_proj)
        # so that fairseq's module reads the values that it is given, and calls the projections
        self.self_attn.self_attention = False
        self.self_attn.skip_embed_dim_check = True

    def values_of(self, memory: Tensor, earlier: Optional[List[Tensor]]) -> Tensor:
        assert earlier is not None
        return self.self_attn_values(self.self_attn.v_proj.project(memory), earlier)


class ResidualEncoderLayer(_ResidualLayer, MixingEncoderLayer):
    """See :class:`.SkipEncoderLayer`."""

    def __init__(self, cfg, config: StackConfig, number: int = 0):
        super().__init__(cfg, config, number)
        self.hand_values(config, number)


class ResidualDecoderLayer(_ResidualLayer, MixingDecoderLayer):
    """See :class:`.SkipDecoderLayer`."""

    def __init__(self, cfg, config: StackConfig, number: int = 0, no_encoder_attn: bool = False):
        super().__init__(cfg, config, number, no_encoder_attn)
        self.hand_values(config, number)


def decoder_slots(no_encoder_attn: bool) -> Tuple[str, ...]:
    """The sub-layers of a decoder's block."""
    return ("self_attn", "ffn") if no_encoder_attn else ("self_attn", "cross_attn", "ffn")
