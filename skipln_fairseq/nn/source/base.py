"""What every source of attention to the encoder is. ``SOURCES`` is their registry."""

from typing import Any, List

from torch import Tensor, nn

from ..variant import Registry, Variant

__all__ = ["SOURCES", "Source"]

SOURCES: Registry["Source"] = Registry("source", "Source: what cross-attention reads")


class Source(Variant, nn.Module):
    """What stands at the end of an encoder and makes what the decoder's blocks attend to.

    ``forward(x, outputs) -> sources``: x is what the encoder ends with, its last norm included; the sources are one
    for all of the decoder's blocks, or one for each. All are (src_len, batch, dim).
    """

    __constants__ = ("reads_outputs",)  # for TorchScript

    reads_outputs = False
    """Whether it reads the embedding and what each block wrote, ``outputs``, which else may be left empty; x, and so
    the norm before it, is then not read."""

    @classmethod
    def build(cls, blocks: int, readers: int, *args: Any, **options: Any) -> "Source":
        """
        Args:
            blocks: how many the encoder has.
            readers: how many blocks the decoder has.
            options: those that it declares.
        """
        return cls()

    def forward(self, x: Tensor, outputs: List[Tensor]) -> List[Tensor]:
        raise NotImplementedError
