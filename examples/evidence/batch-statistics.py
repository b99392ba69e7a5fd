"""The validation loss of models with BatchNorm, by the statistics that their norms take.

    python examples/evidence/batch-statistics.py runs/multi30k-en-de/binary NAME=CHECKPOINT ... > loss.csv

In bits. ``stored`` are the running averages of the checkpoint, which translations take too. ``epoch`` are the means
over all batches of an epoch of the training set, with dropout. ``batch`` are those of each validation batch, in which
a decoder's norms see later words, so that nothing can be translated with them.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator

import torch
from fairseq import checkpoint_utils, utils
from torch import nn


def batches(task, split: str, tokens: int) -> Iterator[dict]:
    """Of the split, shuffled as in the first epoch if it is the training set."""
    found = task.get_batch_iterator(task.dataset(split), max_tokens=tokens, seed=1)
    return found.next_epoch_itr(shuffle=split == "train")


@torch.no_grad()
def loss(model: nn.Module, criterion: nn.Module, task, tokens: int) -> float:
    """Of the validation set, in bits."""
    losses = [criterion(model, sample)[:2] for sample in batches(task, "valid", tokens)]
    return float(sum(one for one, _ in losses)) / sum(size for _, size in losses) / math.log(2)


def measure(file: str, data: str) -> Iterator[tuple[str, float]]:
    """Each kind of statistics, and the loss with it."""
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([file], {"data": data})
    for split in ("train", "valid"):
        task.load_dataset(split)
    criterion, tokens = task.build_criterion(cfg.criterion).eval(), cfg.dataset.max_tokens
    norms = [module for module in model.modules() if hasattr(module, "running_mean")]
    model.eval()
    yield "stored", loss(model, criterion, task, tokens)
    model.train()
    for number, sample in enumerate(batches(task, "train", tokens), 1):
        for norm in norms:
            norm.momentum = 1 / number  # the mean of all batches so far
        model(**sample["net_input"])
    model.eval()
    yield "epoch", loss(model, criterion, task, tokens)
    for norm in norms:
        norm.train()
    yield "batch", loss(model, criterion, task, tokens)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("models", metavar="NAME=CHECKPOINT", nargs="+")
    args = parser.parse_args()
    if not all(model.partition("=")[2] for model in args.models):
        parser.error("valid are NAME=CHECKPOINT")
    utils.import_user_module(argparse.Namespace(user_dir="skipln_fairseq"))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("model", "statistics", "validation loss"))
    for name, _, file in (model.partition("=") for model in args.models):
        torch.manual_seed(1)  # of the dropout
        for statistics, bits in measure(file, args.data):
            writer.writerow((name, statistics, f"{bits:.3f}"))


if __name__ == "__main__":
    main()
