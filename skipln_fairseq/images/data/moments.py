"""Mean and deviation of the training pixels, by which a model normalises what it is given."""

import numpy as np

from .images import Images

__all__ = ["moments"]


def moments(images: Images, numbers: np.ndarray, at_most: int = 10_000) -> tuple[list[float], list[float]]:
    """Of each channel of the numbered images, of evenly spaced ones if there are more than ``at_most``.

    Returns:
        means and deviations, (C), of pixels from 0 to 1; a deviation is at least 1/255
    """
    chosen = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), at_most)).astype(int))
    count, sums, squares = 0, 0.0, 0.0
    for number in numbers[chosen]:
        image = images[int(number)]
        pixels = image.reshape(-1, image.shape[-1]).astype(np.int64)
        count += len(pixels)
        sums, squares = sums + pixels.sum(0), squares + (pixels**2).sum(0)
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1))
    return (mean / 255).tolist(), (deviation / 255).tolist()
