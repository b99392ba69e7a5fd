"""Images as people keep them: a folder for each part, in it a folder for each class.

DATA/train/cat/1.jpg    DATA/valid/cat/9.png    DATA/test/dog/…
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from ...errors import UserError
from .images import ArrayImages, Images

__all__ = ["FileImages", "is_folders", "read_folders"]

IN_MEMORY = 1 << 29
"""So many bytes of pixels are read once and kept; more when they are needed, by ``--num-workers`` processes."""


@dataclass(frozen=True)
class FileImages:
    """Images that are read when they are needed, each scaled to ``size`` × ``size``."""

    files: Sequence[Path]
    size: int
    labels: np.ndarray
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> np.ndarray:
        return _read(self.files[number], self.size)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError("images in files are read by Pillow: pip install pillow") from error
    return Image


def _read(file: Path, size: int) -> np.ndarray:
    """The middle square, in colour."""
    Image = _pillow()
    try:
        with Image.open(file) as image:
            image = image.convert("RGB")
            edge = min(image.size)
            left, top = ((length - edge) // 2 for length in image.size)
            if image.size != (size, size):
                box = (left, top, left + edge, top + edge)
                image = image.resize((size, size), Image.Resampling.BILINEAR, box)
            return np.asarray(image)
    except (OSError, Image.DecompressionBombError, ValueError) as error:
        raise UserError(f"{file}: not an image that can be read: {error}") from error


def _size(file: Path) -> tuple[int, int]:
    try:
        with _pillow().open(file) as image:
            return image.size
    except OSError as error:
        raise UserError(f"{file}: not an image that can be read: {error}") from error


def is_folders(folder: Path) -> bool:
    """Whether there is a folder ``train`` with folders in it."""
    return (folder / "train").is_dir() and any(entry.is_dir() for entry in (folder / "train").iterdir())


def _names(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def read_folders(folder: Path, split: str, size: int | None) -> Images | None:
    """The images of a split, or None if it has no folder; the classes are those of train.

    Args:
        folder: with a folder for each split.
        split: the folder's name.
        size: of the square that images are scaled to; None: the first image's.

    Raises:
        UserError: for a class that train has not, or a file that is no image.
    """
    if not (folder / split).is_dir():
        return None
    classes = _names(folder / "train")
    unknown = set(_names(folder / split)) - set(classes)
    if unknown:
        raise UserError(f"{folder / split}: train has no class {sorted(unknown)[0]}")
    files, labels = [], []
    for label, name in enumerate(classes):
        where = folder / split / name
        found = sorted(file for file in where.iterdir() if file.is_file()) if where.is_dir() else []
        files += [file for file in found if not file.name.startswith(".")]
        labels += [label] * (len(files) - len(labels))
    if not files:
        raise UserError(f"{folder / split}: no images in its folders")
    if size is None:
        size = min(_size(files[0]))
    images = FileImages(files, size, np.asarray(labels, np.int64), classes)
    if len(files) * size * size * 3 > IN_MEMORY:
        return images
    return ArrayImages(np.stack([images[n] for n in range(len(files))]), images.labels, classes)
