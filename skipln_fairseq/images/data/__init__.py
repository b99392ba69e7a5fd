"""Where images come from. ``FORMATS`` is the registry behind ``--image-format``."""

from collections.abc import Callable
from pathlib import Path

from ...errors import UserError
from .cifar import is_cifar, read_cifar
from .dataset import ImageDataset, Normalisation
from .digits import read_digits
from .folders import is_folders, read_folders
from .idx import is_idx, read_idx
from .images import ArrayImages, Images

__all__ = ["FORMATS", "ArrayImages", "ImageDataset", "Images", "Normalisation", "recognise"]

Read = Callable[[Path, str, int | None], Images | None]

FORMATS: dict[str, Read] = {
    "cifar": lambda folder, split, size: read_cifar(folder, split),
    "idx": lambda folder, split, size: read_idx(folder, split),
    "folders": read_folders,
    "digits": lambda folder, split, size: read_digits(split),
}
"""Read a split of the data in a folder; None if it has no such split."""

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
        f"{folder}: no images: valid are a folder with train/CLASS/IMAGE, the files of CIFAR's python version or of "
        "Fashion-MNIST, and the word digits"
    )
