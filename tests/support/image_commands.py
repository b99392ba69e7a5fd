"""The commands on images: digits, which need no download."""

import argparse

import numpy as np
import torch
from PIL import Image

from skipln_fairseq.images.task import ImageClassificationTask
from tests.support.commands import run

TRAIN = (
    *("--task", "image_classification", "--criterion", "image_cross_entropy", "--optimizer", "sgd"),
    *("--momentum", "0.9", "--lr", "0.05", "--batch-size", "64", "--cpu", "--num-workers", "0"),
    *("--no-flip", "--crop-padding", "1", "--log-format", "json", "--log-interval", "1"),
    *("--best-checkpoint-metric", "top1", "--maximize-best-checkpoint-metric", "--no-epoch-checkpoints"),
)


def train(folder, *flags, data="digits", **how):
    arch = () if "--arch" in flags else ("--arch", "preact_resnet20")
    return run("fairseq-train", data, *TRAIN, *arch, "--save-dir", folder, *flags, **how)


def validate(checkpoint, *flags, data="digits", **how):
    task = ("--task", "image_classification", "--path", checkpoint, "--cpu", "--batch-size", "120")
    return run("fairseq-validate", data, *task, *flags, **how)


def weights(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def train_on_colours(folder):
    """A model of the digits in files, with training images that are darker than those that it is tried on."""
    task = ImageClassificationTask(untrained("digits"))
    for split, fade in (("train", 0.8), ("test", 1)):
        images = task.images_of(split)
        for index in range(len(images)):
            _, image, label = images[index]
            place = folder / "colours" / split / str(label) / f"{index:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat((image * fade).astype(np.uint8), 3, 2)).save(place)
    train(folder / "out", "--max-epoch", "4", data=folder / "colours")
    return folder / "out" / "checkpoint_best.pt"


def untrained(data):
    parser = argparse.ArgumentParser()
    ImageClassificationTask.add_args(parser)
    return parser.parse_args([data])
