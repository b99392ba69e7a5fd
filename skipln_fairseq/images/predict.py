"""The rank that a trained model gives to the right class of each image.

    python -m skipln_fairseq.images.predict --path checkpoint_best.pt --data DATA --output ranks.txt

Writes one line for each image of the split, in its order: the place of the right class among all, from 1.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..common.arguments import refuse_in_one_line
from ..common.errors import UserError, print_user_errors_in_one_line
from ..common.files import check_file, write_text
from .checkpoint import load_model
from .ranks import ranked
from .task import ImageClassificationTask

__all__ = ["check_flags", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skipln_fairseq.images.predict", allow_abbrev=False)
    parser.add_argument(
        "--path", type=Path, required=True, metavar="CHECKPOINT", help="a checkpoint of an image model"
    )
    parser.add_argument("--data", metavar="DATA", help="other data than it was trained on")
    parser.add_argument("--split", default="test", help="split of the data (default: test)")
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="images in a batch (default: 256)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="file for the ranks, one line for each image",
    )
    parser.add_argument(
        "--diverged",
        nargs=argparse.REMAINDER,
        metavar="FLAG",
        help="the model diverged, and there is none: write 0 for every image; then the flags of its training",
    )
    return parser


def check_flags(name: str, words: Sequence[str]) -> None:
    """Refuse what the command does not know; the checkpoint and the output need not be there.

    Raises:
        UserError: begins with ``name``.
    """
    parser = _parser()
    refuse_in_one_line(parser, name)
    parser.parse_args(["--path", "none", "--output", "none", *words])


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: for a checkpoint or data that cannot be used.
    """
    args = _parser().parse_args(arguments)
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: valid is a whole number of at least 1")
    check_file("--output", args.output)
    ranks = _ranks(args) if args.diverged is None else [0] * len(_untrained(args).images_of(args.split))
    write_text(args.output, "".join(f"{rank}\n" for rank in ranks))


def _ranks(args: argparse.Namespace) -> list[int]:
    model, task = load_model(args.path, args.data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    dataset = task.images_of(args.split)
    ranks: list[int] = []
    for batch in dataset.batch_by_size(np.arange(len(dataset)), max_sentences=args.batch_size):
        sample = dataset.collater([dataset[index] for index in batch])
        logits = model(sample["net_input"]["image"].to(device)).float()
        ranks += ranked(logits, sample["target"].to(device)).tolist()
    return ranks


def _untrained(args: argparse.Namespace) -> ImageClassificationTask:
    """The task of a training that has left no checkpoint, from those of its flags which are the task's."""
    if args.data is None:
        raise UserError("--diverged needs --data")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--train-subset", default="train")
    ImageClassificationTask.add_args(parser)
    flags, _ = parser.parse_known_args([args.data, *args.diverged])
    return ImageClassificationTask.setup_task(flags, from_checkpoint=True)


if __name__ == "__main__":
    print_user_errors_in_one_line()
    main()
