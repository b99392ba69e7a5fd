"""What the flags say about one stack, resolved: the only thing that layers and stacks are told."""

from dataclasses import dataclass, field
from typing import Any

from ..nn import QK_NORMS, SOURCES, STARTS, VALUES, ConnectionConfig, QKNorm, Source, Start, ValueResidual
from .attention import AttentionConfig

__all__ = ["StackConfig"]


@dataclass(frozen=True)
class StackConfig:
    """The connections of one side (encoder or decoder).

    Attributes:
        self_attn: of the self-attention.
        cross_attn: of the decoder's attention to the encoder; an encoder ignores it.
        ffn: of the feed-forward.
        attention: the kind of the self-attention.
        cross_attention: the kind of the decoder's attention to the encoder.
        qk_norm: the norm of queries, keys and values, a name in ``QK_NORMS``.
        qk_norm_options: its numbers, as pairs of names and values.
        value: the value residual of the self-attention, a name in ``VALUES``.
        source: what attention to the encoder reads, a name in ``SOURCES``.
        source_options: its numbers, as pairs of names and values.
        embedding: what word vectors are made of, a name in ``EMBEDDINGS``; the same on both sides.
        start: the initialisation, a name in ``STARTS``.
        start_options: its numbers, as pairs of names and values.
        side: encoder or decoder.
        depth: how many layers encoder and decoder have, as the model was made.
        layers: the number of each layer, from 0, as the model was made.
        by_layer: what is chosen otherwise for some layers: first and last of them, and their configuration.
        drop_path: the probability with which F(x) of a sentence is dropped; a run may be resumed with another.
    """

    self_attn: ConnectionConfig = field(default_factory=ConnectionConfig)
    cross_attn: ConnectionConfig = field(default_factory=ConnectionConfig)
    ffn: ConnectionConfig = field(default_factory=ConnectionConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    cross_attention: AttentionConfig = field(default_factory=AttentionConfig)
    qk_norm: str = "none"
    qk_norm_options: tuple[tuple[str, Any], ...] = ()
    value: str = "none"
    source: str = "last"
    source_options: tuple[tuple[str, Any], ...] = ()
    embedding: str = "none"
    start: str = "fairseq"
    start_options: tuple[tuple[str, Any], ...] = ()
    side: str = "encoder"
    depth: tuple[int, int] = (1, 1)
    layers: tuple[int, ...] = (0,)
    by_layer: "tuple[tuple[int, int, StackConfig], ...]" = ()
    drop_path: float = 0.0

    def at(self, number: int) -> "StackConfig":
        """What one layer is told."""
        own = (config for first, last, config in self.by_layer if first <= number <= last)
        return next(own, self)

    def all(self) -> "list[StackConfig]":
        """What any layer is told."""
        if not self.by_layer:
            return [self]
        return list(dict.fromkeys(self.at(number) for number in self.layers)) or [self]

    @property
    def last(self) -> "StackConfig":
        """What the last layer is told, which says how the stack ends."""
        return self.at(self.layers[-1]) if self.layers else self

    def end(self) -> dict[str, Any]:
        """Where the last sub-layer stood when the model was made, as fields of a :class:`.Site`."""
        layers = dict(zip(("encoder", "decoder"), self.depth, strict=True))[self.side]
        return {"side": self.side, "slot": "ffn", "last": True, "layer": layers - 1, "depth": self.depth}

    def make_qk_norm(self) -> QKNorm:
        """The norm of queries, keys and values."""
        return QK_NORMS[self.qk_norm](**dict(self.qk_norm_options))

    def own_loop(self) -> dict[str, str]:
        """What needs loops of our own, by the flags that choose it; empty where fairseq's suffice."""
        found = {
            "--depth-mixing": (self.ffn.mixing, "none"),
            "--encoder-solver": (self.ffn.solver, "none"),
            "--value-residual": (self.value, "none"),
            "--cross-attention-source": (self.source, "last"),
        }
        return {flag: choice for flag, (choice, plain) in found.items() if choice != plain}

    def make_value(self, number: int) -> ValueResidual:
        """The value residual of a layer."""
        return VALUES[self.value].build(number)

    def make_source(self) -> Source:
        """What makes, at the end of an encoder, that which the decoder's blocks attend to."""
        return SOURCES[self.source].build(*self.depth, **dict(self.source_options))

    def make_start(self) -> Start:
        """The initialisation."""
        return STARTS[self.start](**dict(self.start_options))
