"""How often images that fool one model fool another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.errors import UserError
from ..images.checkpoint import load_model
from ..images.models import ImageModel
from ..images.task import ImageClassificationTask

__all__ = ["Classifier", "Success", "load_classifiers", "load_images", "success"]

BATCH = 256


@dataclass(frozen=True)
class Classifier:
    """A trained model on pixels from 0 to 1.

    Args:
        name: what it is called in the table.
        model: in evaluation mode.
        task: for its data.
    """

    name: str
    model: ImageModel
    task: ImageClassificationTask

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W), 0 to 1, to (N, classes)."""
        return self.model(images * 255).float()

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(N): the likeliest class of each image."""
        return torch.cat([self.logits(part).argmax(1) for part in images.split(BATCH)])


def load_classifiers(files: Sequence[Path], data: str | None, device: str) -> list[Classifier]:
    """Checkpoints of our image models, which must be of the same images.

    Raises:
        UserError: one is none, or of other classes, sizes or channels than the first.
    """
    found: list[Classifier] = []
    for file, name in zip(files, _names(files), strict=True):
        model, task = load_model(file, data)
        data = str(task.folder)  # the others' own may be gone
        for what in ("classes", "size", "in_channels"):
            if found and getattr(task, what) != getattr(found[0].task, what):
                raise UserError(f"{file} knows images of other {what.removeprefix('in_')} than {files[0]}")
        found.append(Classifier(name, model.to(device), task))
    return found


def _names(files: Sequence[Path]) -> list[str]:
    """What tells their paths apart, from the first folder that differs on; without the file if all are called alike."""
    paths = [file.parts for file in files]
    if len({path[-1] for path in paths}) == 1 < min(map(len, paths)):
        paths = [path[:-1] for path in paths]
    # the last part stays, whatever it is
    folders = zip(*(path[:-1] for path in paths), strict=False)
    shared = len(list(takewhile(lambda parts: len(set(parts)) == 1, folders)))
    return ["/".join(path[shared:]) for path in paths]


def load_images(classifier: Classifier, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of a split, drawn by a seed, with pixels from 0 to 1, and their labels."""
    dataset = classifier.task.images_of(split)
    order = np.random.default_rng(seed).permutation(len(dataset))[:count]
    batch = dataset.collater([dataset[int(index)] for index in np.sort(order)])
    return batch["net_input"]["image"] / 255, batch["target"]


@dataclass(frozen=True)
class Success:
    """How often a target was fooled.

    Attributes:
        fooled: images that the target gets wrong when they are changed.
        of: images that source and target get right when they are not.
    """

    fooled: int
    of: int

    @property
    def share(self) -> float | None:
        """In percent; None of no images."""
        return 100 * self.fooled / self.of if self.of else None


def success(by_source: Tensor, by_target: Tensor, when_changed: Tensor, labels: Tensor) -> Success:
    """How often a target was fooled, of images that are drawn alike.

    Args:
        by_source: classes (N) that the source gives the images.
        by_target: those that the target gives them.
        when_changed: those that it gives what became of them.
        labels: the right ones.
    """
    both = (by_source == labels) & (by_target == labels)
    return Success(int((both & (when_changed != labels)).sum()), int(both.sum()))
