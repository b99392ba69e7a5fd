"""scikit-learn's digits: 1,797 images of 8 × 8, which come with it."""

import numpy as np

from ...common.errors import UserError
from .images import ArrayImages

__all__ = ["read_digits"]

TEST_EVERY = 5
"""Each fifth image is one of the test set: the file is in no order of classes."""


def read_digits(split: str) -> ArrayImages | None:
    """The images of "train" or "test", 0 to 16 stretched to 0 to 255, or None for another split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("the digits come with scikit-learn: pip install scikit-learn") from error
    if split not in ("train", "test"):
        return None
    digits = load_digits()
    chosen = (np.arange(len(digits.target)) % TEST_EVERY == 0) == (split == "test")
    pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    return ArrayImages(
        pixels, digits.target[chosen].astype(np.int64), [str(name) for name in digits.target_names]
    )
