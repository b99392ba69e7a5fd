"""Decoding step by step: attention to cached keys, whole steps of a decoder, the best continuations of a beam search.

In C, compiled on first use; where :func:`fits` says no, or :func:`kind` None, there is none.
"""

from .attend import attend
from .best import Choice, best
from .encode import Encoder, EncoderLayer
from .library import fits
from .product import Product, kind, product
from .records import Records
from .search import Plan, Translations, search
from .space import Space
from .step import ACTIVATIONS, Decoder, Layer, Workspace
from .wiring import Shape, Wiring

__all__ = [
    "ACTIVATIONS",
    "Choice",
    "Decoder",
    "Encoder",
    "EncoderLayer",
    "Layer",
    "Plan",
    "Product",
    "Records",
    "Shape",
    "Space",
    "Translations",
    "Wiring",
    "Workspace",
    "attend",
    "best",
    "fits",
    "kind",
    "product",
    "search",
]
