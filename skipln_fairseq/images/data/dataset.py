"""Labelled images as fairseq's trainer takes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset

from .augment import augmented
from .images import Images

__all__ = ["ImageDataset", "Normalisation"]


class Normalisation:
    """``(v / 255 − mean) / deviation`` of each channel.

    Args:
        mean: (C).
        deviation: (C), of the pixels of the training set, at least 1/255.
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]):
        self.mean = np.asarray(mean, np.float32)
        self.deviation = np.asarray(deviation, np.float32)

    @classmethod
    def of(cls, images: Images, numbers: np.ndarray, at_most: int = 10_000) -> "Normalisation":
        """Of all pixels of the numbered images, of evenly spaced ones if there are more than ``at_most``."""
        chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), at_most)).astype(int))]
        pixels = [images[int(number)].reshape(-1, images[int(number)].shape[-1]) / 255 for number in chosen]
        mean = np.mean([each.mean(0) for each in pixels], 0)
        variance = np.mean([((each - mean) ** 2).mean(0) for each in pixels], 0)
        return cls(mean, np.maximum(np.sqrt(variance), 1 / 255))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(…, C), uint8 to float32."""
        return (pixels.astype(np.float32) / 255 - self.mean) / self.deviation


class ImageDataset(FairseqDataset):
    """Some of the images, normalised, and changed by chance if they are for training.

    What chance does to an image follows from the seed, the epoch and the image alone: neither batches nor workers
    change it.

    Args:
        images: all of them.
        numbers: of those that belong here.
        normalisation: of the training set.
        padding: see :func:`.augmented`; None: images stay as they are.
        flip: as above.
        seed: of chance.
        shuffle: whether batches are drawn from all images.
    """

    def __init__(
        self,
        images: Images,
        numbers: np.ndarray,
        normalisation: Normalisation,
        padding: int | None = None,
        flip: bool = False,
        seed: int = 1,
        shuffle: bool = False,
    ):
        self.images, self.numbers, self.normalisation = images, numbers, normalisation
        self.padding, self.flip, self.seed, self.shuffle = padding, flip, seed, shuffle
        self.epoch = 1

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, int]:
        number = int(self.numbers[index])
        image = self.images[number]
        if self.padding is not None:
            rng = np.random.default_rng((self.seed, self.epoch, number))
            image = augmented(image, self.padding, self.flip, rng)
        return index, image, int(self.images.labels[number])

    def collater(self, samples: list[tuple[int, np.ndarray, int]]) -> dict[str, Any]:
        """``net_input.image`` (N, C, H, W) and ``target`` (N)."""
        if not samples:
            return {}
        indices, images, labels = zip(*samples, strict=True)
        pixels = self.normalisation(np.stack(images)).transpose(0, 3, 1, 2)
        return {
            "id": torch.tensor(indices),
            "nsentences": len(samples),
            "ntokens": len(samples),
            "net_input": {"image": torch.from_numpy(np.ascontiguousarray(pixels))},
            "target": torch.tensor(labels),
        }

    def num_tokens(self, index: int) -> int:
        return 1

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return np.ones(len(indices), np.int64)

    def size(self, index: int) -> int:
        return 1

    @property
    def sizes(self) -> np.ndarray:
        return np.ones(len(self), np.int64)

    def ordered_indices(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self))

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """No: each epoch has other batches."""
        return not self.shuffle

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch = epoch
