"""CIFAR-10 and CIFAR-100 in their "python version": pickles of arrays and strings, and of nothing else."""

import io
import pickle
from pathlib import Path

import numpy as np

from ...errors import UserError
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
# what numpy arrays are put together from in a pickle, as numpy before and after 2 names it
ARRAYS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _ArraysOnly(pickle.Unpickler):
    """Arrays, strings, numbers and their containers: a pickle that names anything else could run it."""

    def find_class(self, module: str, name: str):
        if (module, name) in ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is neither an array nor a string")


def _load(file: Path) -> dict:
    try:
        # Python 2 wrote them: its strings are bytes here
        content = _ArraysOnly(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except Exception as error:  # what a forged pickle can raise has no end
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: not a file of CIFAR's python version: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: not a file of CIFAR's python version: it holds no dictionary")
    return content


def _layout(folder: Path) -> tuple[dict[str, list[str]], bytes, str] | None:
    for layout in (CIFAR10, CIFAR100):
        if (folder / layout[2]).is_file():
            return layout
    return None


def is_cifar(folder: Path) -> bool:
    """Whether the folder holds CIFAR-10's or CIFAR-100's files."""
    return _layout(folder) is not None


def read_cifar(folder: Path, split: str) -> ArrayImages | None:
    """The images of "train" or "test", or None for another split.

    Raises:
        UserError: a file is missing, or not what it should be.
    """
    parts, key, meta = _layout(folder)
    if split not in parts:
        return None
    pixels, labels = [], []
    for name in parts[split]:
        content = _load(folder / name)
        try:
            data, found = np.asarray(content[b"data"], np.uint8), np.asarray(content[key], np.int64)
            pixels.append(data.reshape(len(found), 3, SIZE, SIZE))
        except (KeyError, ValueError) as error:
            raise UserError(f"{folder / name}: no {SIZE} × {SIZE} images with {key.decode()}") from error
        labels.append(found)
    names = [name.decode() for name in _load(folder / meta)[NAMES[key]]]
    images = np.concatenate(pixels).transpose(0, 2, 3, 1)
    return ArrayImages(np.ascontiguousarray(images), np.concatenate(labels), names)
