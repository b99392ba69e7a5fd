"""A Transformer encoder in one call: from words to the output of its last layer."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..chain import Norming
from .library import loaded, pointer
from .product import Product, ProductStruct
from .space import Space
from .step import ACTIVATIONS
from .wiring import ConnectionStruct, NormStruct, Wiring, norm_struct

__all__ = ["Encoder", "EncoderLayer", "SourceStruct"]

MAPS = ("itself", "out", "widen", "narrow")


@dataclass(frozen=True)
class EncoderLayer:
    """A layer's maps and wirings; ``itself`` is query, key and value in one, ``widen`` is rectified."""

    itself: Product
    out: Product
    widen: Product
    narrow: Product
    self_wiring: Wiring
    feed_wiring: Wiring

    @property
    def maps(self) -> list[Product]:
        """Its products."""
        return [getattr(self, name) for name in MAPS]


class _EncoderLayer(ctypes.Structure):
    _fields_ = (
        *((name, ProductStruct) for name in MAPS),
        *((name, ConnectionStruct) for name in ("self", "feed")),
    )


class _Encoder(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("layers", "heads", "dim", "ffn", "words", "padding", "activation")
        ),
        ("layer", ctypes.c_void_p),
        *((name, NormStruct) for name in ("start", "end")),
        ("embedding", ctypes.c_void_p),
        ("embedding_scale", ctypes.c_float),
    )


class SourceStruct(ctypes.Structure):
    """As the source's ``Source``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("sentences", "columns")),
        *((name, ctypes.c_void_p) for name in ("words", "positions")),
    )

    @classmethod
    def of(cls, words: Tensor, positions: Tensor | None) -> "SourceStruct":
        """Words (sentences, columns), int64; what is added to the first word of a sentence, the second, and so on."""
        return cls(*words.shape, pointer(words), pointer(positions))


class Encoder:
    """All that an encoder needs and that does not change.

    Args:
        layers: from the first.
        heads: of every attention.
        embedding: (words, dim).
        embedding_scale: the factor of its rows.
        padding: the word that is none.
        start: the norm of the embeddings, or none.
        end: the norm of the stack's output, or none.
        activation: a name in ACTIVATIONS.
    """

    def __init__(
        self,
        layers: Sequence[EncoderLayer],
        heads: int,
        embedding: Tensor,
        embedding_scale: float,
        padding: int,
        start: Norming | None,
        end: Norming | None,
        activation: str,
    ):
        self.kept: list[Any] = [*layers, embedding]  # what the addresses below are of
        self.products = [one for layer in layers for one in layer.maps]
        self.dim = embedding.size(1)
        self.array = (_EncoderLayer * len(layers))(*map(self._layer, layers))
        self.struct = _Encoder(
            *(len(layers), heads, self.dim, layers[0].widen.outputs, len(embedding), padding),
            ACTIVATIONS.index(activation),
            *(
                ctypes.addressof(self.array),
                norm_struct(start, self.dim, self.kept),
                norm_struct(end, self.dim, self.kept),
            ),
            *(pointer(embedding), embedding_scale),
        )

    def _layer(self, layer: EncoderLayer) -> _EncoderLayer:
        sub_layers = ((layer.self_wiring, layer.out), (layer.feed_wiring, layer.narrow))
        wirings = (wiring.struct(self.dim, last.inputs, self.kept) for wiring, last in sub_layers)
        return _EncoderLayer(*(one.struct for one in layer.maps), *wirings)

    def encode(self, words: Tensor, positions: Tensor | None, space: Space) -> Tensor:
        """The output of the last layer, (columns, sentences, dim), zero at padding.

        Args:
            words: (sentences, columns), int64.
            positions: (columns, dim), added to the first word of a sentence, the second and so on, or None.
            space: that nobody else writes to.

        Raises:
            IndexError: for a number that is no word.
        """
        words = words.contiguous()
        source = SourceStruct.of(words, positions)
        library, threads = loaded("step"), ctypes.c_int64(torch.get_num_threads())
        space.check(library.encode(space.handle, ctypes.byref(self.struct), ctypes.byref(source), threads))
        out = torch.zeros(words.size(1), len(words), self.dim)
        library.encoded(space.handle, ctypes.byref(self.struct), ctypes.byref(source), pointer(out))
        return out
