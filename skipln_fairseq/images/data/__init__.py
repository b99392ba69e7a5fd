"""Where images come from. ``FORMATS`` is the registry behind ``--image-format``."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...common.errors import UserError
from .cifar import is_cifar, read_cifar
from .dataset import ImageDataset
from .digits import read_digits
from .folders import is_folders, read_folders
from .idx import is_idx, read_idx
from .images import ArrayImages, Images
from .moments import moments

__all__ = ["FORMATS", "ArrayImages", "ImageDataset", "Images", "moments", "read_split", "recognise"]

Read = Callable[[Path, str, int | None, Sequence[str] | None], Images | None]

FORMATS: dict[str, Read] = {
    "cifar": lambda folder, split, size, classes: read_cifar(folder, split),
    "idx": lambda folder, split, size, classes: read_idx(folder, split, classes),
    "folders": read_folders,
    "digits": lambda folder, split, size, classes: read_digits(split),
}
"""Read a split of the data in a folder; None if it has no such split. Size and classes are those of a model, None where
the data say what they are."""

SIGNS: dict[str, Callable[[Path], bool]] = {"cifar": is_cifar, "idx": is_idx, "folders": is_folders}


def recognise(folder: Path) -> str:
    """The format of the data in a folder; the name ``digits`` means scikit-learn's, where there is no such folder.

    Raises:
        UserError: it is none.
    """
    for name, is_it in SIGNS.items():
        if folder.is_dir() and is_it(folder):
            return name
    if str(folder) == "digits":
        return "digits"
    raise UserError(
        f"{folder}: no images: valid are a folder with train/CLASS/IMAGE or CLASS/IMAGE, the files of CIFAR's python "
        "version or of Fashion-MNIST, and the word digits"
    )


def read_split(
    name: str,
    folder: Path,
    split: str,
    size: int | None = None,
    classes: Sequence[str] | None = None,
    channels: int | None = None,
) -> Images | None:
    """Images of a format, checked: square, and of a model's size, classes and channels where these are given.

    Raises:
        UserError: the data are not of this format, or not for this model.
    """
    images = FORMATS[name](folder, split, size, classes)
    if images is None:
        return None
    if not len(images):
        raise UserError(f"{folder}: no images for {split}")
    height, width, depth = images[0].shape
    if height != width:
        raise UserError(f"{folder}: images of {height} × {width} pixels: valid are square ones")
    if size is not None and height != size:
        raise UserError(f"{folder}: images of {height} × {height} pixels, where {size} × {size} are needed")
    if channels is not None and depth != channels:
        raise UserError(f"{folder}: images of {depth} channels, where {channels} are needed")
    if classes is not None and list(images.classes) != list(classes):
        other = next(iter(sorted(set(images.classes) ^ set(classes))), "their order")
        raise UserError(f"{folder}: the classes are not those of the model: {other}")
    return images
