"""A step of a Transformer decoder in one call: from the newest words to the logits."""

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..chain import Norming
from .library import loaded, pointer
from .product import Product, ProductStruct
from .wiring import ConnectionStruct, NormStruct, Wiring, norm_struct

__all__ = ["ACTIVATIONS", "Decoder", "Layer", "Workspace"]

ACTIVATIONS = ("relu", "gelu", "gelu_accurate", "tanh")
"""In the order of the source's numbers; the first is part of the product before it."""

MAPS = ("itself", "out", "query", "source_out", "widen", "narrow")


@dataclass(frozen=True)
class Layer:
    """A layer's maps and wirings; ``itself`` is query, key and value in one, ``widen`` is rectified."""

    itself: Product
    out: Product
    query: Product
    source_out: Product
    widen: Product
    narrow: Product
    self_wiring: Wiring
    source_wiring: Wiring
    feed_wiring: Wiring

    @property
    def maps(self) -> list[Product]:
        """Its products."""
        return [getattr(self, name) for name in MAPS]


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ProductStruct) for name in MAPS),
        *((name, ConnectionStruct) for name in ("self", "source", "feed")),
    )


class _Decoder(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("layers", "heads", "dim", "ffn", "words", "activation")),
        ("layer", ctypes.c_void_p),
        ("projection", ProductStruct),
        *((name, NormStruct) for name in ("start", "end")),
        ("embedding", ctypes.c_void_p),
        ("embedding_scale", ctypes.c_float),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "positions", "source_positions")),
        *((name, ctypes.c_void_p) for name in ("newest", "position", "records", "table")),
        *((name, ctypes.c_void_p) for name in ("source", "source_table", "memories", "sentence")),
        ("sentences", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("scratch", "logits", "by_head", "weights")),
    )


class Workspace:
    """Memory that steps of one decoding write to and the next step writes to again.

    It is not the decoder's: several threads may decode with one.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, size: int) -> Tensor:
        """So many elements, with anything in them."""
        if name not in self._held or self._held[name].numel() < size:
            self._held[name] = torch.empty(size)
        return self._held[name][:size]


class Decoder:
    """All that a step needs and that does not change between steps.

    Args:
        layers: from the first.
        heads: of every attention.
        embedding: (words, dim).
        embedding_scale: the factor of its rows.
        projection: to the logits.
        start: the norm of the embeddings, or none.
        end: the norm of the stack's output, or none.
        activation: a name in ACTIVATIONS.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        heads: int,
        embedding: Tensor,
        embedding_scale: float,
        projection: Product,
        start: Norming | None,
        end: Norming | None,
        activation: str,
    ):
        self.kept: list[Any] = [*layers, embedding, projection]  # what the addresses below are of
        self.products = [projection, *(one for layer in layers for one in layer.maps)]
        self.layers, self.dim, self.words = len(layers), embedding.size(1), projection.outputs
        self.array = (_Layer * len(layers))(*map(self._layer, layers))
        self.struct = _Decoder(
            *(len(layers), heads, self.dim, layers[0].widen.outputs, self.words),
            ACTIVATIONS.index(activation),
            *(ctypes.addressof(self.array), projection.struct),
            *(norm_struct(norm, self.dim, self.kept) for norm in (start, end)),
            *(pointer(embedding), embedding_scale),
        )
        self.heads = heads
        self.function = loaded("step").step
        self.scratch_size = loaded("step").step_scratch
        self.scratch_size.restype = ctypes.c_int64

    def _layer(self, layer: Layer) -> _Layer:
        sub_layers = (
            (layer.self_wiring, layer.out),
            (layer.source_wiring, layer.source_out),
            (layer.feed_wiring, layer.narrow),
        )
        wirings = (wiring.struct(self.dim, last.inputs, self.kept) for wiring, last in sub_layers)
        return _Layer(*(one.struct for one in layer.maps), *wirings)

    def step(
        self,
        newest: Tensor,
        position: Tensor | None,
        records: array,
        table: Tensor,
        source: array,
        source_table: Tensor,
        workspace: Workspace,
    ) -> tuple[Tensor, Tensor]:
        """Go one position further.

        Args:
            newest: (rows,), int64, words.
            position: (dim,), added to all embeddings, or None.
            records: for each position, this one too, the address of (rows then, layers, 3, dim), float32: queries,
                keys and values of each row; this step writes the last.
            table: (rows, positions), int32: which record of each position a row attends to, below 0 none.
            source: for each source position the address of (sentences, layers, 2, dim), float32: keys and values.
            source_table: (rows, source positions), int32: likewise.
            workspace: of this decoding.

        Returns:
            logits (rows, words), until the next step with this workspace; the last layer's weights over the source,
            their mean over heads, (rows, source positions)
        """
        rows = len(newest)
        logits = workspace.take("logits", rows * self.words).view(rows, self.words)
        by_head, weights = torch.empty(self.heads, rows, len(source)), torch.empty(rows, len(source))
        size = self.scratch_size(ctypes.byref(self.struct), ctypes.c_int64(rows))
        scratch = workspace.take("scratch", size)
        numbers = _Step(
            *(rows, len(records), len(source)),
            *(newest.data_ptr(), None if position is None else position.data_ptr()),
            *(records.buffer_info()[0], table.data_ptr(), source.buffer_info()[0], source_table.data_ptr()),
            *(None, None, 0),  # a search alone has the source arranged by sentences
            *(scratch.data_ptr(), logits.data_ptr(), by_head.data_ptr(), weights.data_ptr()),
        )
        self.function(
            ctypes.byref(self.struct), ctypes.byref(numbers), ctypes.c_int64(torch.get_num_threads())
        )
        return logits, weights
