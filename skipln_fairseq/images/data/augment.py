"""Pad, crop and flip: what is done to CIFAR's training images (He et al. 2016, arXiv:1512.03385, section 4.2)."""

import numpy as np

__all__ = ["augmented"]


def augmented(image: np.ndarray, padding: int, flip: bool, rng: np.random.Generator) -> np.ndarray:
    """A window of the image's size out of the image with black pixels around it, half of the time mirrored.

    Args:
        image: (H, W, C).
        padding: how many pixels, 0 or more.
        flip: whether left and right may be exchanged.
        rng: where chance comes from: two draws and one more.
    """
    height, width, _ = image.shape
    top, left = rng.integers(0, 2 * padding + 1, size=2)
    mirrored = rng.random() < 0.5
    if padding:
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        image = padded[top : top + height, left : left + width]
    return image[:, ::-1] if flip and mirrored else image
