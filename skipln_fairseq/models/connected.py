"""What encoder and decoder layers share: a connection in the place of each norm of fairseq's layer."""

import functools
from collections.abc import Callable, Sequence
from typing import List, Optional

import torch
from torch import Tensor, nn

from ..nn import Branch, QKNorm, build_connection, initialise_branch
from .attention import ATTENTIONS, AttentionConfig
from .config import StackConfig

__all__ = ["Connected", "keep_dropout_names", "retains_dropout", "transposed"]


def retains_dropout(module: nn.Module) -> bool:
    """Whether something in it is dropped in inference too (``--retain-dropout``)."""
    return any(getattr(one, "apply_during_inference", False) for one in module.modules())


def keep_dropout_names(layer, stock: type) -> None:
    """Name a layer's dropouts after the stock class: ``--retain-dropout-modules`` selects them by that name."""
    layer.dropout_module.module_name = stock.__name__
    layer.activation_dropout_module.module_name = stock.__name__


def _build_attention(
    attention: nn.Module, kind: AttentionConfig, qk_norm: QKNorm, connect: Callable[[nn.Linear], nn.Linear]
) -> nn.Module:
    attention = ATTENTIONS[kind.type](attention, kind)
    plain = _kinds(attention)
    attention.out_proj = connect(attention.out_proj)
    qk_norm.apply((attention.q_proj, attention.k_proj, attention.v_proj), attention.num_heads)
    # fairseq's shortcut through torch's attention would read the projections' weights and never call them
    attention.skip_embed_dim_check = _kinds(attention) != plain
    return attention


def _kinds(attention: nn.Module) -> list[type]:
    return [type(one) for one in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)]


def transposed(padding_mask: Optional[Tensor]) -> Optional[Tensor]:
    """(batch, time), as fairseq has its masks, to (time, batch), as the layers' tensors are."""
    if padding_mask is None:
        return None
    return padding_mask.to(torch.bool).t()


# of each sub-layer the names that fairseq has for its F and for its norm
NAMES = {
    "self_attn": ("self_attn", "self_attn_layer_norm"),
    "cross_attn": ("encoder_attn", "encoder_attn_layer_norm"),
    "ffn": ("fc2", "final_layer_norm"),
}


class Connected:
    """Mixed into a layer of fairseq's: a connection stands in the place of each norm."""

    def connect(self, config: StackConfig, number: int, slots: Sequence[str]) -> None:
        """Build the connections, and give each F the first weights and the last projection that its own wants."""
        config = config.at(number)
        first, start, qk_norm = None, config.make_start(), config.make_qk_norm()
        for index, slot in enumerate(slots):
            choice, (function, norm) = getattr(config, slot), NAMES[slot]
            where = {
                "side": config.side,
                "slot": slot,
                "index": index,
                "last": index == len(slots) - 1,
                "size": len(slots),
                "layer": number,
                "depth": config.depth,
            }
            connection = build_connection(self.embed_dim, choice, first=first, **where)
            connection.drop_path = config.drop_path
            first = connection if first is None else first
            setattr(self, norm, connection)
            initialise_branch(self._branch(slot), choice, start, **where)
            projection = functools.partial(connection.connect_projection, make_norm=choice.make_norm)
            if slot == "ffn":
                self.fc2 = projection(self.fc2)
            else:
                kind = config.attention if slot == "self_attn" else config.cross_attention
                setattr(self, function, _build_attention(getattr(self, function), kind, qk_norm, projection))

    def _branch(self, slot: str) -> Branch:
        if slot == "ffn":
            return Branch((), (self.fc1, self.fc2))
        attention = getattr(self, NAMES[slot][0])
        return Branch((attention.q_proj, attention.k_proj), (attention.v_proj, attention.out_proj))

    def values_of(self, memory: Tensor, earlier: Optional[List[Tensor]]) -> Tensor:
        """What self-attention is given to project to values, where it attends to ``memory``."""
        return memory

    # Its dropout is a number that the connections apply, and ``dropout_module`` is not called.

    def drop_rate(self) -> float:
        """The probability with which an element of F(x) is dropped, now."""
        if self.training or self.dropout_module.apply_during_inference:
            return float(self.dropout_module.p)
        return 0.0
