"""How a trained model ranks the right class of each image.

    python -m skipln_fairseq.images.predict --path checkpoint_best.pt --data DATA --output ranks.txt

Writes one line for each image of the split, in its order: the place of the right class among all, from 1.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fairseq import checkpoint_utils

from ..errors import UserError, print_user_errors_in_one_line
from .data import FORMATS, recognise
from .models import ImageModel

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skipln_fairseq.images.predict", allow_abbrev=False)
    parser.add_argument("--path", type=Path, required=True, metavar="CHECKPOINT", help="of an image model")
    parser.add_argument("--data", metavar="DATA", help="instead of what it was trained on")
    parser.add_argument("--split", default="test", help="test unless given")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="256 unless given")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="of the ranks")
    parser.add_argument(
        "--diverged", action="store_true", help="there is no model: 0, no place, for every image"
    )
    return parser


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: for a checkpoint or data that cannot be used.
    """
    args = _parser().parse_args(arguments)
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    if args.diverged:
        _write(args.output, [0] * _count(args))
        return
    if not args.path.is_file():
        raise UserError(f"{args.path}: no such checkpoint")
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: valid is a whole number of at least 1")
    overrides = {} if args.data is None else {"images": args.data}
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(args.path)], overrides)
    if not isinstance(model, ImageModel):
        raise UserError(f"{args.path}: a {type(model).__name__}, and no model of images")
    model.eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    task.load_dataset(args.split)
    dataset = task.dataset(args.split)
    ranks: list[int] = []
    for start in range(0, len(dataset), args.batch_size):
        indices = range(start, min(start + args.batch_size, len(dataset)))
        batch = dataset.collater([dataset[index] for index in indices])
        logits = model(batch["net_input"]["image"].to(device)).float()
        right = logits.gather(1, batch["target"].to(device)[:, None])
        # of equal ones the right one comes last: a model that has nothing but equal logits is no good one
        ranks += ((logits >= right) | logits.isnan()).sum(1).clamp(min=1).tolist()
    _write(args.output, ranks)


def _count(args: argparse.Namespace) -> int:
    if args.data is None:
        raise UserError("--diverged needs --data")
    folder = Path(args.data)
    images = FORMATS[recognise(folder)](folder, args.split, None)
    if images is None:
        raise UserError(f"{folder}: no split {args.split}")
    return len(images)


def _write(file: Path, ranks: Sequence[int]) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text("".join(f"{rank}\n" for rank in ranks), "utf-8")
    part.replace(file)


if __name__ == "__main__":
    print_user_errors_in_one_line()
    main()
