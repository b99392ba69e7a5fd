"""The IDX files of MNIST and Fashion-MNIST, packed by gzip or not."""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...common.errors import UserError
from ...common.unpack import unpacked
from .images import ArrayImages

__all__ = ["is_idx", "read_idx"]

PREFIX = {"train": "train", "test": "t10k"}
UNSIGNED_BYTES = 0x08


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _read(file: Path, dimensions: int) -> np.ndarray:
    """An array of bytes: two zeros, the type, the number of dimensions, each as a big-endian word, the data."""
    try:
        with file.open("rb") as stream:
            content = (unpacked(stream) if file.suffix == ".gz" else stream).read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)):
        raise UserError(f"{file}: not an IDX file of bytes in {dimensions} dimensions")
    shape = np.frombuffer(content[4:head], ">u4").tolist()
    if len(content) - head != math.prod(shape):
        raise UserError(f"{file}: {len(content) - head} bytes where {' × '.join(map(str, shape))} should be")
    return np.frombuffer(content[head:], np.uint8).reshape(shape)


def is_idx(folder: Path) -> bool:
    """Whether the folder holds MNIST's files."""
    return any(_find(folder, f"{prefix}-images-idx3-ubyte") is not None for prefix in PREFIX.values())


def read_idx(folder: Path, split: str, classes: Sequence[str] | None = None) -> ArrayImages | None:
    """The images of "train" or "test", grey, or None for another split.

    The file does not say how many classes there are: as many as ``classes``, or as the largest label tells.

    Raises:
        UserError: a file is missing, or not what it should be.
    """
    if split not in PREFIX:
        return None
    arrays = []
    for name, dimensions in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1)):
        file = _find(folder, f"{PREFIX[split]}-{name}")
        if file is None:
            raise UserError(f"{folder / f'{PREFIX[split]}-{name}'}: no such file, nor with .gz")
        arrays.append(_read(file, dimensions))
    pixels, labels = arrays
    if len(pixels) != len(labels):
        raise UserError(f"{folder}: {len(pixels)} images and {len(labels)} labels for {split}")
    count = max(int(labels.max(initial=0)) + 1, len(classes or ()))
    return ArrayImages(pixels[..., None], labels.astype(np.int64), [str(n) for n in range(count)])
