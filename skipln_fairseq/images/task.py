"""The task ``image_classification``: images with a class each, through fairseq's trainer."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.tasks import LegacyFairseqTask, register_task

from ..errors import UserError
from .data import FORMATS, ImageDataset, Images, Normalisation, recognise

__all__ = ["ImageClassificationTask"]

logger = logging.getLogger(__name__)


@register_task("image_classification")
class ImageClassificationTask(LegacyFairseqTask):
    """``fairseq-train DATA --task image_classification``: DATA is a folder of images, or the word ``digits``.

    What data have no validation part get one held out of the training part, drawn by the seed of the data.
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

    def __init__(self, args):
        super().__init__(args)
        self.folder = Path(args.images)
        name = getattr(args, "image_format", "auto")
        if name not in ("auto", *FORMATS):
            raise UserError(f"--image-format {name}: valid are auto, {', '.join(FORMATS)}")
        for flag in ("crop_padding", "data_seed"):
            if getattr(args, flag) < 0:
                raise UserError(f"--{flag.replace('_', '-')} {getattr(args, flag)}: valid is 0 or more")
        if not 0 < args.held_out < 1:
            raise UserError(f"--held-out {args.held_out}: valid is between 0 and 1")
        self.format = recognise(self.folder) if name == "auto" else name
        self._read: dict[str, Images] = {}
        self.training = self._images("train")
        if self.training is None:
            raise UserError(f"{self.folder}: no training images")
        self.classes = list(self.training.classes)
        self.in_channels, self.size = self.training[0].shape[2], self.training[0].shape[0]
        self.held_out = self._hold_out() if self._images("valid") is None else {}
        self.normalisation = Normalisation.of(
            self.training, self.held_out.get("train", np.arange(len(self.training)))
        )
        logger.info(
            f"{self.format}: {len(self.training)} training images of {self.size} × {self.size}, "
            f"{len(self.classes)} classes"
        )

    @classmethod
    def setup_task(cls, args, **kwargs: Any) -> "ImageClassificationTask":
        """As fairseq calls it."""
        return cls(args)

    def _images(self, split: str) -> Images | None:
        if split not in self._read:
            # all splits have the size of the training images
            size = getattr(self, "size", getattr(self.args, "image_size", None))
            self._read[split] = FORMATS[self.format](self.folder, split, size)
        return self._read[split]

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Make a split: train, valid, test, or another folder's name.

        Raises:
            UserError: there is none.
        """
        images, numbers = self._images(split), None
        if split in self.held_out:
            images, numbers = self.training, self.held_out[split]
        if images is None:
            raise UserError(f"{self.folder}: no split {split}")
        training = split == "train"
        self.datasets[split] = ImageDataset(
            images,
            np.arange(len(images)) if numbers is None else numbers,
            self.normalisation,
            padding=self.args.crop_padding if training else None,
            flip=training and not self.args.no_flip,
            seed=self.args.seed,
            shuffle=training,
        )

    def _hold_out(self) -> dict[str, np.ndarray]:
        order = np.random.default_rng(self.args.data_seed).permutation(len(self.training))
        share = max(1, round(self.args.held_out * len(order)))
        return {"valid": np.sort(order[:share]), "train": np.sort(order[share:])}

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """A step, and what the model wants done after it."""
        super().optimizer_step(optimizer, model, update_num)
        model.after_step(optimizer)

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
