"""What the flags say about one stack, resolved: the only thing that layers and stacks are told."""

from dataclasses import dataclass, field

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
        initial: the initialisation, a name in ``INITIALISERS``.
        gain: what that initialisation multiplies weights by.
        attention: the kind of the self-attention.
        cross_attention: the kind of the decoder's attention to the encoder.
    """

    self_attn: ConnectionConfig = field(default_factory=ConnectionConfig)
    cross_attn: ConnectionConfig = field(default_factory=ConnectionConfig)
    ffn: ConnectionConfig = field(default_factory=ConnectionConfig)
    initial: str = "as drawn"
    gain: float = 1.0
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    cross_attention: AttentionConfig = field(default_factory=AttentionConfig)
