"""The task ``image_classification``: images with a class each, through fairseq's trainer."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import LegacyFairseqTask, register_task

from ..common import arguments
from ..common.errors import UserError
from .data import FORMATS, ImageDataset, Images, moments, read_split, recognise
from .running_statistics import average_running_statistics

__all__ = ["NAME", "ImageClassificationTask"]

logger = logging.getLogger(__name__)


NAME = "image_classification"


@register_task(NAME)
class ImageClassificationTask(LegacyFairseqTask):
    """``fairseq-train DATA --task image_classification``: DATA is a folder of images, or the word ``digits``.

    What data have no validation part get one held out of the training part, drawn by the seed of the data. What the
    training data are like (classes, size, channels, what is held out) is state that the checkpoint holds, as its model
    holds the mean and deviation of their pixels: a trained model asks other data for that split alone which it is tried
    on.

    Args:
        args: flags.
        training: whether the training part is to be trained on; a checkpoint's task changes no image by chance.
    """

    @staticmethod
    def add_args(parser) -> None:
        """Add the task's flags."""
        # not "data", in which fairseq would look for files of other validation sets
        parser.add_argument("images", metavar="DATA", help="a folder of images, or: digits")
        parser.add_argument(
            "--image-format", default="auto", metavar="NAME", help=f"auto, {', '.join(FORMATS)}"
        )
        parser.add_argument(
            "--image-size",
            type=int,
            metavar="N",
            help="images of folders become N × N; else the first one's size",
        )
        parser.add_argument(
            "--held-out", type=float, default=0.1, metavar="SHARE", help="of train, where there is no valid"
        )
        parser.add_argument(
            "--data-seed", type=int, default=1, metavar="N", help="of what is held out; the same for all runs"
        )
        parser.add_argument(
            "--crop-padding",
            type=int,
            default=4,
            metavar="N",
            help="pixels around training images; 0: no crops",
        )
        parser.add_argument(
            "--no-flip", action="store_true", help="never mirror training images (digits, letters)"
        )

    def __init__(self, args, training: bool = True):
        super().__init__(args)
        self.folder, self.training = Path(args.images), training
        name = args.image_format
        if name not in ("auto", *FORMATS):
            raise UserError(f"--image-format {name}: valid are auto, {', '.join(FORMATS)}")
        for flag, read in (
            *(("crop_padding", arguments.count), ("data_seed", arguments.count)),
            *((name, arguments.whole) for name in ("image_size", "batch_size", "max_tokens")),
        ):
            if getattr(args, flag, None) is not None:
                read(f"--{flag.replace('_', '-')}", getattr(args, flag))
        if not 0 < args.held_out < 1:
            raise UserError(f"--held-out {args.held_out}: valid is between 0 and 1")
        self.trained_on = getattr(args, "train_subset", "train")
        if training and self.trained_on in getattr(args, "valid_subset", "valid").split(","):
            # fairseq keeps one data set of a name, and that one is changed by chance
            raise UserError(
                f"--valid-subset {args.valid_subset}: to measure the training set use fairseq-validate"
            )
        self.format = recognise(self.folder) if name == "auto" else name
        if self.format == "digits" and str(self.folder) != "digits":
            raise UserError(f"--image-format digits: DATA is the word digits, not {self.folder}")
        self._read: dict[str, Images | None] = {}
        self.state.add_factory("images", self._described)
        self.state.add_factory("division", self._divided)

    @classmethod
    def setup_task(cls, args, from_checkpoint: bool = False, **kwargs: Any) -> "ImageClassificationTask":
        """As fairseq calls it."""
        return cls(args, training=not from_checkpoint)

    def _split(self, split: str, **model: Any) -> Images | None:
        if split not in self._read:
            self._read[split] = read_split(self.format, self.folder, split, **model)
        return self._read[split]

    def _described(self) -> dict[str, Any]:
        """What training images are like, in types that a checkpoint may hold."""
        images = self._split(self.trained_on, size=self.args.image_size)
        if images is None:
            raise UserError(f"{self.folder}: no training images: no split {self.trained_on}")
        size, _, channels = images[0].shape
        logger.info(
            f"{self.format}: {len(images)} training images of {size} × {size}, {len(images.classes)} classes"
        )
        return {"classes": list(images.classes), "size": size, "channels": channels}

    def _divided(self) -> dict[str, Any]:
        """How images are held out of those that are trained on; empty where there is a validation part."""
        if self._images("valid") is not None:
            return {}
        count = len(self._images(self.trained_on))
        return {"training images": count, "held-out": self.args.held_out, "data-seed": self.args.data_seed}

    @property
    def classes(self) -> list[str]:
        """Names, in the order of the model's logits."""
        return self.state.images["classes"]

    @property
    def size(self) -> int:
        """Height and width of the images."""
        return self.state.images["size"]

    @property
    def in_channels(self) -> int:
        """Of the images."""
        return self.state.images["channels"]

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints hold; fairseq's own has only what somebody has asked for."""
        return {"images": self.state.images, "division": self.state.division}

    def changes(self, stored_state: Mapping[str, Any]) -> list[str]:
        """In what a checkpoint's training images differ from these."""
        current, found = self.state_dict(), []
        for part, stored in stored_state.items():
            for name in {**stored, **current[part]}:
                before, after = stored.get(name), current[part].get(name)
                if before != after:
                    found.append(f"{name} {before} → {after}")
        return found

    def build_model(self, args: Any, from_checkpoint: bool = False) -> Any:
        """A model for these images; a new one normalises them by what is trained on.

        Raises:
            UserError: it is no model of images.
        """
        arch = getattr(args, "arch", None)
        if arch in ARCH_MODEL_REGISTRY and not hasattr(ARCH_MODEL_REGISTRY[arch], "normalise_by"):
            raise UserError(f"--arch {arch}: no model of images, which --task {NAME} is for")
        model = super().build_model(args, from_checkpoint)
        if not from_checkpoint:
            trained_on = self._dataset(self.trained_on, training=False)
            model.normalise_by(*moments(trained_on.images, trained_on.numbers))
        return model

    def _images(self, split: str) -> Images | None:
        return self._split(split, size=self.size, classes=self.classes, channels=self.in_channels)

    def images_of(self, split: str) -> ImageDataset:
        """The images of a split as they are: train, valid, test, or another folder's name.

        Raises:
            UserError: there is none.
        """
        return self._dataset(split, training=False)

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Make a split; that which is trained on is changed by chance.

        Raises:
            UserError: there is none.
        """
        self.datasets[split] = self._dataset(split, training=self.training and split == self.trained_on)

    def _dataset(self, split: str, training: bool) -> ImageDataset:
        images, numbers = self._images(split), None
        if split in (self.trained_on, "valid") and self._images("valid") is None:
            images = self._images(self.trained_on)
            kept, held_out = (None, None) if images is None else self._held_out(len(images))
            numbers = held_out if split == "valid" else kept
        if images is None:
            raise UserError(f"{self.folder}: no split {split}")
        return ImageDataset(
            images,
            np.arange(len(images)) if numbers is None else numbers,
            padding=self.args.crop_padding if training else None,
            flip=training and not self.args.no_flip,
            seed=getattr(self.args, "seed", 1),
            shuffle=training,
        )

    def _held_out(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the training images that are trained on, and of those that are held out."""
        order = np.random.default_rng(self.args.data_seed).permutation(count)
        share = max(1, round(self.args.held_out * count))
        if share >= count:
            raise UserError(f"--held-out {self.args.held_out} of {count} images leaves none to train on")
        return np.sort(order[share:]), np.sort(order[:share])

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """A step, and what the model wants done after it."""
        super().optimizer_step(optimizer, model, update_num)
        model.after_step(optimizer)

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        """Data-parallel workers have seen other images each; from here they have the same running statistics."""
        average_running_statistics(model)

    def build_generator(self, *args: Any, **kwargs: Any) -> None:
        """Images are not translated.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"--task {NAME}: images are classified: use fairseq-validate or skipln_fairseq.images.predict"
        )

    def max_positions(self) -> None:
        """Images have none."""
        return None

    @property
    def source_dictionary(self) -> None:
        """Images have none."""
        return None

    @property
    def target_dictionary(self) -> None:
        """Classes are numbers."""
        return None
