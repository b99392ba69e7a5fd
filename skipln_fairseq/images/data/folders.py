"""Images as people keep them: a folder for each part, in it a folder for each class.

DATA/train/cat/1.jpg    DATA/valid/cat/9.png    DATA/test/dog/…

Without parts, DATA/cat/1.jpg, all are the training part.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
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


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The image in a file, whatever is wrong with which is told in one line."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError("images in files are read by Pillow: pip install pillow") from error
    try:
        with Image.open(file) as image:
            yield image
    except Exception as error:  # what a damaged file can raise has no end
        raise UserError(f"{file}: not an image that can be read: {error}") from error


def _read(file: Path, size: int) -> np.ndarray:
    """The middle square, in colour."""
    with _opened(file) as image:
        from PIL import Image, ImageOps

        image = _in_colour(ImageOps.exif_transpose(image))
        edge = min(image.size)
        left, top = ((length - edge) // 2 for length in image.size)
        if image.size != (size, size):
            box = (left, top, left + edge, top + edge)
            image = image.resize((size, size), Image.Resampling.BILINEAR, box)
        return np.asarray(image)


def _in_colour(image: Any) -> Any:
    """Three channels of 8 bits; what is transparent shows the colour that it hides."""
    if image.mode.startswith("I;16"):
        from PIL import Image

        # of the upper 8 bits: Pillow would make white of all above 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}), whose range is not known")
    return image.convert("RGB")


def _size(file: Path) -> int:
    """The shorter edge."""
    with _opened(file) as image:
        return min(image.size)


def is_folders(folder: Path) -> bool:
    """Whether there are folders with folders in them, or with files that seem to be images."""
    if any(_names(split) for split in folder.iterdir() if split.is_dir()):
        return True
    return any(_seems_an_image(file) for file in _undivided(folder))


def _undivided(folder: Path) -> list[Path]:
    """The files in its folders, if these are classes; none if they are parts with classes in them."""
    names = _names(folder)
    if any(_names(folder / name) for name in names):
        return []
    return [file for name in names for file in (folder / name).iterdir()]


def _seems_an_image(file: Path) -> bool:
    """Whether Pillow reads files of such a name. Without Pillow any seems one, and reading it says what is missing."""
    try:
        from PIL import Image
    except ImportError:
        return True
    return Image.registered_extensions().get(file.suffix.lower()) in Image.OPEN


def _names(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def read_folders(
    folder: Path, split: str, size: int | None, classes: Sequence[str] | None = None
) -> Images | None:
    """The images of a split, or None if it has no folder.

    Args:
        folder: with a folder for each split.
        split: the folder's name.
        size: of the square that images are scaled to; None: the first image's.
        classes: names of their folders, of which the split may lack some; None: those it has.

    Raises:
        UserError: for a class that is none of these, or a file that is no image.
    """
    part = folder / split
    if _undivided(folder):
        if split != "train":
            return None
        part = folder
    if not part.is_dir():
        return None
    found = _names(part)
    classes = found if classes is None else list(classes)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise UserError(f"{part}: training has no class {unknown[0]}")
    files, labels = [], []
    for label, name in enumerate(classes):
        where = part / name
        inside = sorted(file for file in where.iterdir() if file.is_file()) if where.is_dir() else []
        files += [file for file in inside if not file.name.startswith(".")]
        labels += [label] * (len(files) - len(labels))
    if not files:
        raise UserError(f"{part}: no images in its folders")
    if size is None:
        size = _size(files[0])
    images = FileImages(files, size, np.asarray(labels, np.int64), classes)
    if len(files) * size * size * 3 > IN_MEMORY:
        return images
    return ArrayImages(np.stack([images[n] for n in range(len(files))]), images.labels, classes)
