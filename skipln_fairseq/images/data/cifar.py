"""CIFAR-10 and CIFAR-100 in their "python version": pickles of arrays and strings, and of nothing else."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from .images import ArrayImages

__all__ = ["is_cifar", "read_cifar"]

SIZE = 32
# file names of the parts, the key of the labels, and where their names stand
CIFAR10 = (
    {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
    b"labels",
    "batches.meta",
)
CIFAR100 = ({"train": ["train"], "test": ["test"]}, b"fine_labels", "meta")
NAMES = {b"labels": b"label_names", b"fine_labels": b"fine_label_names"}


class _Byte:
    """In the place of numpy's type of bytes, the only one that pixels may have. The byte order that follows is that of
    larger ones."""

    def __init__(self, name: Any, *_: Any):
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {name!r} where bytes belong")

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """In the place of numpy's array, whose shape and content follow."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        self.array = _filled(content, kind, shape, "F" if by_columns else "C")


def _filled(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(kind, _Byte) or not isinstance(content, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array without bytes")
    return np.frombuffer(bytes(content), np.uint8).reshape(shape, order=order)


def _empty(array: Any, shape: Any, kind: Any) -> _Array:
    return _Array()


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("bytes that are none")
    return text.encode("latin1")


def _never_called(*_: Any) -> None:
    raise pickle.UnpicklingError("an array that is made as numpy's own pickles make none")


# What arrays are put together from in a pickle, as numpy before and after 2 and pickle's protocols name it, and what
# does so here: numpy's own would make of a forged type and some bytes an array of addresses, and read what is there.
STAND_INS = {
    ("numpy", "dtype"): _Byte,
    ("numpy", "ndarray"): _never_called,  # an argument of what follows
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _filled for core in ("core", "_core")},
    ("_codecs", "encode"): _encoded,
}


class _ArraysOnly(pickle.Unpickler):
    """Arrays of bytes, strings, numbers and their containers: a pickle that names anything else could run it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in STAND_INS:
            return STAND_INS[module, name]
        raise pickle.UnpicklingError(f"{f'{module}.{name}'!r} is neither an array nor a string")


def _load(file: Path) -> dict:
    try:
        # Python 2 wrote them: its strings are bytes here
        content = _ArraysOnly(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        if isinstance(content, dict):
            return {
                key.encode() if isinstance(key, str) else key: getattr(value, "array", value)
                for key, value in content.items()
            }
    except Exception as error:  # what a forged pickle can raise has no end
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: not a file of CIFAR's python version: {reason}") from error
    raise UserError(f"{file}: not a file of CIFAR's python version: it holds no dictionary")


def _layout(folder: Path) -> tuple[dict[str, list[str]], bytes, str] | None:
    return next((layout for layout in (CIFAR10, CIFAR100) if (folder / layout[2]).is_file()), None)


def is_cifar(folder: Path) -> bool:
    """Whether the folder holds CIFAR-10's or CIFAR-100's files."""
    return _layout(folder) is not None


def read_cifar(folder: Path, split: str) -> ArrayImages | None:
    """The images of "train" or "test", or None for another split.

    Raises:
        UserError: a file is missing, or not what it should be.
    """
    layout = _layout(folder)
    if layout is None:
        raise UserError(f"{folder}: neither batches.meta nor meta, as CIFAR's python version has it")
    parts, key, meta = layout
    if split not in parts:
        return None
    names = _names(folder / meta, NAMES[key])
    pixels, labels = zip(*(_part(folder / name, key, len(names)) for name in parts[split]), strict=True)
    images = np.concatenate(pixels).transpose(0, 2, 3, 1)
    return ArrayImages(np.ascontiguousarray(images), np.concatenate(labels), names)


def _names(file: Path, key: bytes) -> list[str]:
    names = _load(file).get(key)
    if not isinstance(names, list) or not all(isinstance(name, (bytes, str)) for name in names):
        raise UserError(f"{file}: no list of {key.decode()}")
    return [name if isinstance(name, str) else name.decode(errors="replace") for name in names]


def _part(file: Path, key: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3, 32, 32) and labels (N)."""
    content = _load(file)
    pixels, labels = content.get(b"data"), content.get(key)
    whole = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and isinstance(labels, list)
    if not whole or pixels.shape != (len(labels), 3 * SIZE * SIZE):
        raise UserError(f"{file}: no {SIZE} × {SIZE} images of bytes with {key.decode()}")
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise UserError(f"{file}: {key.decode()} that are none of the {classes}")
    return pixels.reshape(-1, 3, SIZE, SIZE), np.asarray(labels, np.int64)
