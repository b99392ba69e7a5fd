"""Decoding step by step: attention to cached keys, whole steps of a decoder, the best continuations of a beam search.

In C, compiled on first use; where :func:`fits` says no, or :func:`kind` None, there is none.
"""

from .attend import attend
from .best import Choice, best
from .library import fits
from .product import Product, kind, product
from .records import Records
from .step import Decoder, Layer, Wiring, Workspace

__all__ = [
    "Choice",
    "Decoder",
    "Layer",
    "Product",
    "Records",
    "Wiring",
    "Workspace",
    "attend",
    "best",
    "fits",
    "kind",
    "product",
]
