"""What the flags say about one stack, resolved: the only thing that layers and stacks are told."""

from dataclasses import dataclass, field
from typing import Any

from ..nn import ConnectionConfig
from .attention import AttentionConfig

__all__ = ["StackConfig"]


@dataclass(frozen=True)
class StackConfig:
    """The connections of one side (encoder or decoder): one skip type; norms, and what they imply, by sub-layer.

    Attributes:
        self_attn: of the self-attention.
        cross_attn: of the decoder's attention to the encoder; an encoder ignores it.
        ffn: of the feed-forward.
        attention: the kind of the self-attention.
        cross_attention: the kind of the decoder's attention to the encoder.
        side: encoder or decoder.
        depth: how many layers encoder and decoder have, as the model was made.
        layers: the number of each layer, from 0, as the model was made.
        drop_path: the probability with which F(x) of a sentence is dropped; a run may be resumed with another.
    """

    self_attn: ConnectionConfig = field(default_factory=ConnectionConfig)
    cross_attn: ConnectionConfig = field(default_factory=ConnectionConfig)
    ffn: ConnectionConfig = field(default_factory=ConnectionConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    cross_attention: AttentionConfig = field(default_factory=AttentionConfig)
    side: str = "encoder"
    depth: tuple[int, int] = (1, 1)
    layers: tuple[int, ...] = (0,)
    drop_path: float = 0.0

    def end(self) -> dict[str, Any]:
        """Where the last sub-layer stood when the model was made, as fields of a :class:`.Site`."""
        layers = dict(zip(("encoder", "decoder"), self.depth, strict=True))[self.side]
        return {"side": self.side, "slot": "ffn", "last": True, "layer": layers - 1, "depth": self.depth}
