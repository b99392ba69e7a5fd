"""Labelled images as fairseq's trainer takes them."""

from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset

from .augment import augmented
from .images import Images

__all__ = ["ImageDataset"]


class ImageDataset(FairseqDataset):
    """Some of the images, changed by chance if they are for training.

    What chance does to an image follows from the seed, the epoch and the image alone: neither batches nor workers
    change it.

    Args:
        images: all of them.
        numbers: of those that belong here.
        padding: see :func:`.augmented`; None: images stay as they are.
        flip: as above.
        seed: of chance.
        shuffle: whether batches are drawn from all images.
    """

    def __init__(
        self,
        images: Images,
        numbers: np.ndarray,
        padding: int | None = None,
        flip: bool = False,
        seed: int = 1,
        shuffle: bool = False,
    ):
        self.images, self.numbers = images, numbers
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
        """``net_input.image`` (N, C, H, W), uint8, and ``target`` (N)."""
        if not samples:
            return {}
        indices, images, labels = zip(*samples, strict=True)
        pixels = np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
        return {
            "id": torch.tensor(indices),
            "nsentences": len(samples),
            "ntokens": len(samples),
            "net_input": {"image": torch.from_numpy(pixels)},
            "target": torch.tensor(labels),
        }

    def batch_by_size(
        self,
        indices: np.ndarray,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[np.ndarray]:
        """Batches of equal size, but for one image, none above what is allowed.

        A few images left over would be a step like any other, and statistics of a batch say nothing of so few.
        """
        limits = [limit for limit in (max_tokens, max_sentences) if limit]
        count = -(-len(indices) // min(limits, default=len(indices)))
        return np.array_split(np.asarray(indices), count)

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
