"""Models and images from checkpoints, and how often images that fool one model fool another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fairseq import checkpoint_utils
from torch import Tensor, nn

from ..errors import UserError
from ..images.data import Normalisation
from ..images.models import ImageModel

__all__ = ["Classifier", "Success", "load_classifier", "load_images", "success"]


class Classifier:
    """A trained model on pixels from 0 to 1.

    Args:
        name: of the checkpoint.
        model: in evaluation mode.
        normalisation: of its training data.
        task: which it was trained in.
    """

    def __init__(self, name: str, model: nn.Module, normalisation: Normalisation, task):
        self.name, self.model, self.task = name, model, task
        self.mean, self.deviation = (
            torch.as_tensor(np.asarray(values)).view(1, -1, 1, 1)
            for values in (normalisation.mean, normalisation.deviation)
        )

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W), 0 to 1, to (N, classes)."""
        return self.model((images - self.mean) / self.deviation)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(N): the likeliest class of each image."""
        return self.logits(images).argmax(1)


def load_classifier(file: Path, data: str | None) -> Classifier:
    """A checkpoint of one of our image models.

    Args:
        file: the checkpoint.
        data: in the place of what it was trained on, or None.

    Raises:
        UserError: it is none.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such checkpoint")
    overrides = {} if data is None else {"images": data}
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(file)], overrides)
    if not isinstance(model, ImageModel):
        raise UserError(f"{file}: a {type(model).__name__}, and no model of images")
    model.eval().requires_grad_(False)
    return Classifier(file.parent.name or file.stem, model, task.normalisation, task)


def load_images(classifier: Classifier, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of a split, drawn by a seed, with pixels from 0 to 1, and their labels."""
    classifier.task.load_dataset(split)
    dataset = classifier.task.dataset(split)
    order = np.random.default_rng(seed).permutation(len(dataset))[:count]
    _, pixels, labels = zip(*(dataset[int(index)] for index in np.sort(order)), strict=True)
    images = torch.from_numpy(np.stack(pixels).astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels)


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


def success(
    source: Classifier,
    target: Classifier,
    images: Tensor,
    changed: Tensor,
    labels: Tensor,
    batch_size: int = 256,
) -> Success:
    """See :class:`Success`."""

    def right(model: Classifier, pixels: Tensor) -> Tensor:
        parts: Sequence[Tensor] = [model.predict(part) for part in pixels.split(batch_size)]
        return torch.cat(list(parts)) == labels

    both = right(source, images) & right(target, images)
    return Success(int((both & ~right(target, changed)).sum()), int(both.sum()))
