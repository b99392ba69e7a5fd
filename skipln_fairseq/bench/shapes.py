"""The dimensions that contestants are compared at."""

from dataclasses import dataclass

from ..common.errors import UserError

__all__ = ["DEFAULT", "SHAPES", "Shape", "shape"]


@dataclass(frozen=True)
class Shape:
    """Dimensions, and the vocabulary that usually goes with them.

    Attributes:
        name: for ``--shapes``.
        flags: of fairseq-train, valid for every contestant's architecture.
        words: of the one dictionary of both languages.
    """

    name: str
    flags: tuple[str, ...]
    words: int


def _dimensions(width: int, ffn: int, layers: int, heads: int, *more: str) -> tuple[str, ...]:
    return (
        *("--encoder-embed-dim", str(width), "--encoder-ffn-embed-dim", str(ffn)),
        *("--encoder-layers", str(layers), "--encoder-attention-heads", str(heads)),
        *("--decoder-layers", str(layers), "--decoder-attention-heads", str(heads)),
        *more,
    )


SHAPES = {
    one.name: one
    for one in (
        Shape("tiny", _dimensions(128, 512, 2, 4, "--share-all-embeddings"), 4000),
        Shape("iwslt", _dimensions(512, 1024, 6, 4, "--share-decoder-input-output-embed"), 8000),
        Shape("wmt", _dimensions(512, 2048, 6, 8, "--share-all-embeddings"), 32000),
        Shape("wmt-big", _dimensions(1024, 4096, 6, 16, "--share-all-embeddings"), 32000),
    )
}
"""Our tiny preset, fairseq's ``transformer_iwslt_de_en``, and the base and the big model of Vaswani et al. 2017."""
DEFAULT = ("tiny", "iwslt", "wmt")
"""A CPU thread takes a minute for an update of the big one."""


def shape(name: str) -> Shape:
    """The shape of a name."""
    if name not in SHAPES:
        raise UserError(f"--shapes {name}: valid are {', '.join(SHAPES)}")
    return SHAPES[name]
