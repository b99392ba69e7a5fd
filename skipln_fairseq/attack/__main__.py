"""Craft adversarial images on one checkpoint and try them on others.

    python -m skipln_fairseq.attack --source a/checkpoint_best.pt --targets b/checkpoint_best.pt --gammas 1 0.5 0.2

γ = 1 is PGD (with ``--momentum 1`` the momentum method), below 1 the Skip Gradient Method. Writes ``transfer.md``,
``transfer.json`` and ``images.png``.
"""

import argparse
import logging
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import UserError, print_user_errors_in_one_line
from ..common.files import as_json, check_folder, write_all
from ..common.needs import need
from .branches import decayed_branches, residual_blocks
from .craft import Budget, craft
from .transfer import Classifier, Success, load_classifiers, load_images, success

__all__ = ["main"]

SHOWN = 8
BATCH = 128


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.attack",
        description="Adversarial images by PGD, momentum and the Skip Gradient Method, and their transfer.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        metavar="CHECKPOINT",
        help="the model whose gradients make the images",
    )
    parser.add_argument(
        "--targets",
        type=Path,
        nargs="+",
        default=[],
        metavar="CHECKPOINT",
        help="the models that the images are tried on, beside the source",
    )
    parser.add_argument("--data", metavar="DATA", help="other data than the source was trained on")
    parser.add_argument("--split", default="test", help="split of the data (default: test)")
    parser.add_argument(
        "--images",
        type=int,
        default=500,
        metavar="N",
        help="number of images, drawn by the seed (default: 500)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed (default: 1)")
    parser.add_argument(
        "--gammas",
        nargs="+",
        default=["1", "0.5"],
        metavar="γ",
        help="decays of the branches' gradients, above 0 to 1",
    )
    parser.add_argument(
        "--all-blocks",
        action="store_true",
        help="decay each stage's first block too, which the method's published code leaves out",
    )
    parser.add_argument(
        "--epsilon", default="8/255", metavar="ε", help="largest change of a pixel (default: 8/255)"
    )
    parser.add_argument("--step", default="2/255", metavar="α", help="change of one step (default: 2/255)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="number of steps (default: 10)")
    parser.add_argument("--momentum", default="0", metavar="μ", help="momentum (default: 0)")
    parser.add_argument(
        "--output", type=Path, default=Path("attack"), metavar="DIR", help="folder to write (default: attack)"
    )
    return parser


def _number(flag: str, text: str) -> float:
    """Of "0.5" or "8/255"."""
    try:
        # not all by Fraction, which would write out 1e999999999
        number = float(Fraction(text) if "/" in text else text)
    except (ValueError, ZeroDivisionError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--{flag} {text}: valid is a number such as 0.03 or 8/255")
    return number


def _gammas(texts: Sequence[str]) -> list[float]:
    gammas = [_number("gammas", text) for text in texts]
    for gamma in gammas:
        if not 0 < gamma <= 1:
            raise UserError(f"--gammas {gamma:g}: valid is above 0 and at most 1")
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise UserError(f"--gammas {' '.join(texts)}: two are alike to six digits")
    return gammas


def _name(gamma: float, momentum: float) -> str:
    base = "MI" if momentum else "PGD"
    return base if gamma == 1 else f"SGM{'+MI' if momentum else ''} γ = {gamma:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: for numbers out of range, and checkpoints or data that cannot be used.
    """
    args = _parser().parse_args(arguments)
    need("images", "matplotlib")
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    gammas = _gammas(args.gammas)
    budget = Budget(
        *(_number(name, getattr(args, name)) for name in ("epsilon", "step")),
        args.steps,
        _number("momentum", args.momentum),
    )
    if args.images < 1:
        raise UserError(f"--images {args.images}: valid is a whole number of at least 1")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: valid is 0 or more")
    check_folder("--output", args.output)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source, *others = load_classifiers([args.source, *args.targets], args.data, device)
    if min(gammas) < 1 and not residual_blocks(source.model, args.all_blocks):
        raise UserError(
            f"{args.source} has no residual branches to decay{_but_first(source.model)}: --gammas 1 alone means "
            "something there"
        )
    targets = [source, *others]
    images, labels = (each.to(device) for each in load_images(source, args.split, args.images, args.seed))
    clean = [target.predict(images) for target in targets]
    # over the whole of them: many data sets have their classes one after the other
    pictured = torch.linspace(0, len(images) - 1, min(SHOWN, len(images))).long()
    rows, shown = {}, {"clean": images[pictured].cpu()}
    for gamma in gammas:
        name = _name(gamma, budget.momentum)
        changed = _craft(source, images, labels, budget, gamma, args.all_blocks)
        shown[name] = changed[pictured].cpu()
        rows[name] = [
            success(clean[0], before, target.predict(changed), labels)
            for target, before in zip(targets, clean, strict=True)
        ]
    settings = {**vars(args), "source": str(args.source), "targets": [str(file) for file in args.targets]}
    settings["output"] = str(args.output)
    settings["data"], settings["drawn"] = str(source.task.folder), len(images)
    names = [target.name for target in targets]
    table = _table(names, rows)
    content = {
        "settings": settings,
        "targets": names,
        "results": {
            name: [{"fooled": one.fooled, "of": one.of} for one in found] for name, found in rows.items()
        },
    }
    files = write_all(
        args.output,
        {
            "transfer.md": lambda file: file.write_text(f"{table}\n\n{_about(settings)}\n", "utf-8"),
            "transfer.json": lambda file: file.write_text(as_json(content), "utf-8"),
            "images.png": lambda file: _draw(file, shown),
        },
    )
    print(table, *files, sep="\n")


def _but_first(model: torch.nn.Module) -> str:
    return " but each stage's first, see --all-blocks" if residual_blocks(model) else ""


def _craft(
    source: Classifier, images: Tensor, labels: Tensor, budget: Budget, gamma: float, every: bool
) -> Tensor:
    with decayed_branches(source.model, gamma, every):
        parts = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        return torch.cat([craft(source.logits, part, right, budget) for part, right in parts])


def _table(targets: Sequence[str], rows: Mapping[str, Sequence[Success]]) -> str:
    lines = [f"| attack | {' | '.join([f'{targets[0]} (source)', *targets[1:]])} |"]
    lines += [f"| --- |{' ---: |' * len(targets)}"]
    for name, found in rows.items():
        cells = [f"{one.share:.1f} % of {one.of}" if one.of else "– of 0" for one in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _about(settings: Mapping[str, Any]) -> str:
    return (
        "Share of the images which source and target classify rightly that the target gets wrong when changed. "
        f"{settings['drawn']} images of {settings['data']}, {settings['split']}; ε {settings['epsilon']}, "
        f"{settings['steps']} steps of {settings['step']}, momentum {settings['momentum']}, "
        f"seed {settings['seed']}. γ decays all blocks"
        f"{'' if settings['all_blocks'] else ' but the first of each stage'}."
    )


def _draw(file: Path, shown: dict[str, Tensor]) -> None:
    """A row for each attack, a column for each image."""
    from matplotlib.figure import Figure

    columns = max(len(images) for images in shown.values())
    figure = Figure(figsize=(1.2 * columns + 1.2, 1.25 * len(shown)), dpi=120, layout="constrained")
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for row, (name, images) in zip(axes, shown.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for place, image in zip(row, images, strict=False):
            # matplotlib has the channels last, and no dimension for a single one
            pixels = image[0] if image.size(0) == 1 else image.permute(1, 2, 0)
            place.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        for place in row:
            place.set_xticks([])
            place.set_yticks([])
    figure.savefig(file, format="png")


if __name__ == "__main__":
    print_user_errors_in_one_line()
    main()
