"""Gradients, activations and the ratio x : F of each sub-layer.

    python -m skipln_fairseq.probe
    python -m skipln_fairseq.probe --variant "Post-LN: --skip-type plain" --variant "3: --skip-order 3" --depths 6 10
    python -m skipln_fairseq.probe --path checkpoints/checkpoint_best.pt --data data --untrained
    python -m skipln_fairseq.probe --picture growth
    python -m skipln_fairseq.probe --picture trained --path dlcl/checkpoint_last.pt hyper/checkpoint_last.pt --data data

Without a model it draws a picture of fresh ones. ``gradients``: of the last feed-forward weight over the depth (Xiong
et al. 2020), and of every sub-layer of models that scale x, without norm and with LN (Liu et al. 2020). ``growth``:
what LayerNorm Scaling, DS-Init, Keel and T-Fixup say of activations or gradients over the sub-layers. ``trained``, of
checkpoints: DLCL's or DenseFormer's weights, and what became of several streams.
"""

import argparse
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..common.errors import UserError
from ..common.files import check_folder, write_all
from ..common.needs import need
from .panel import panels, trained_panels
from .picture import PICTURES
from .subject import Batch, Measured, Variant, measure_checkpoint, measure_variant, unnamed, variant

__all__ = ["main", "told_apart"]

NAME = "probe"
WEIGHTS = f"{NAME}-weights.csv"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.probe",
        description="Measure and draw gradients, activations and x : F of every sub-layer. Every other flag is "
        "one of fairseq-train's (--arch, --skip-type, --criterion, ...) and holds for all variants.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="'NAME: FLAGS'",
        help="a model to measure; repeatable",
    )
    parser.add_argument(
        "--path", nargs="+", type=Path, default=[], metavar="FILE", help="checkpoints to measure"
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="with --path: beside each, models of its flags before training",
    )
    parser.add_argument(
        "--picture",
        metavar="NAME",
        help="gradients (default), growth; with --path: trained instead of all panels",
    )
    parser.add_argument(
        "--depths", nargs="+", type=int, metavar="N", help="layers of each side (default: the architecture's)"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="models of each kind (default: 5)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="take the batch from binarised data")
    parser.add_argument("--split", help="split of the data (default: valid)")
    parser.add_argument(
        "--sentences", type=int, default=8, metavar="N", help="sentences in the batch (default: 8)"
    )
    parser.add_argument(
        "--length", type=int, default=16, metavar="N", help="length of random sentences (default: 16)"
    )
    parser.add_argument(
        "--words", type=int, default=256, metavar="N", help="size of the random vocabulary (default: 256)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(NAME), metavar="DIR", help=f"folder to write (default: {NAME})"
    )
    return parser


def _check(args: argparse.Namespace, flags: Sequence[str]) -> None:
    counts = {name: [getattr(args, name)] for name in ("seeds", "sentences", "length", "words")}
    for name, values in (counts | {"depths": args.depths or []}).items():
        for value in values:
            if value < 1:
                raise UserError(f"--{name} {value}: valid is a whole number of at least 1")
    if args.path and (args.variant or args.depths or flags):
        raise UserError(
            "--path is a finished model: --variant, --depths and flags of a model do not go with it"
        )
    if args.untrained and not args.path:
        raise UserError("--untrained goes with --path: other models are measured before training anyway")
    valid = ("trained",) if args.path else PICTURES
    if args.picture is not None and (args.picture not in valid or args.variant or flags):
        raise UserError(
            f"--picture {args.picture}: valid are {', '.join(PICTURES)}, of models of their own, "
            "and with --path trained"
        )
    if args.split is not None and args.data is None and not args.path:
        raise UserError("--split goes with --data or --path: other batches are random")
    if len({file.resolve() for file in args.path}) < len(args.path):
        raise UserError("--path: a checkpoint stands there twice")
    if args.data is not None and not args.data.is_dir():
        raise UserError(f"--data {args.data}: no such folder")
    check_folder("--output", args.output)
    names = [variant(text).name for text in args.variant]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--variant {name}: two variants have this name")


def _fresh(one: Variant, depth: int | None, args: argparse.Namespace, batch: Batch) -> Iterator[Measured]:
    return measure_variant(one, depth, range(1, args.seeds + 1), batch)


def told_apart(files: Sequence[Path]) -> list[str]:
    """Names of files: their stems; where two are alike, what lies between the paths' common beginning and end."""
    stems = [file.stem for file in files]
    if len(set(stems)) == len(files):
        return stems
    paths = [file.with_suffix("").parts for file in files]
    first = min(_alike(paths), min(map(len, paths)) - 1)
    same = _alike([path[:first:-1] for path in paths])  # of the ends, behind the first part that differs
    names = [str(Path(*path[first : len(path) - same])) for path in paths]
    return names if len(set(names)) == len(files) else [str(file) for file in files]


def _alike(paths: Sequence[tuple[str, ...]]) -> int:
    """How many parts all of them begin with."""
    differing = (n for n, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1)
    return next(differing, min(map(len, paths)))


def _of_checkpoints(files: Sequence[Path], args: argparse.Namespace, batch: Batch) -> Iterator[Measured]:
    for file, name in zip(files, told_apart(files), strict=True):
        yield from measure_checkpoint(file, name, range(1, args.seeds + 1), batch, args.untrained)


def _measure(args: argparse.Namespace, flags: Sequence[str]):
    """All measurements, and the panels that show them."""
    batch = Batch(args.sentences, args.length, args.words, args.data, args.split or "valid")
    if args.path:
        measured = list(_of_checkpoints(args.path, args, batch))
        shown = (trained_panels if args.picture else panels)(measured)
        if not shown:
            raise UserError(
                "--picture trained: none of these models has weights between blocks or several streams"
            )
        return measured, shown
    if args.variant or flags:
        variants = [variant(text) for text in args.variant] or [unnamed(flags)]
        wanted = [Variant(one.name, (*flags, *one.flags)) for one in variants]
        found = itertools.product(wanted, args.depths or [None])
        measured = [one for each, depth in found for one in _fresh(each, depth, args, batch)]
        return measured, panels(measured)
    picture = PICTURES[args.picture or "gradients"]
    depths = args.depths or picture.depths
    measured, shown = [], []
    for group in picture.groups:
        of_group = [
            one
            for number in range(len(group.variants))
            for depth in ([min(depths)] if group.shallowest else depths)
            for one in _fresh(group.at(depth)[number], depth, args, batch)
        ]
        measured += of_group
        shown.append(group.panel(of_group))
    return measured, shown


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args, flags = _parser().parse_known_args(argv)
    _check(args, flags)
    need("probe", "matplotlib", "rich")
    from rich.console import Console

    from .draw import draw, save
    from .growth import growth, markdown
    from .table import not_finite, table, write_csv, write_weights

    console = Console()
    with console.status("measuring"):
        measured, panels = _measure(args, flags)
        figure = draw(panels)
        writers = {
            f"{NAME}.csv": lambda file: write_csv(measured, file),
            f"{NAME}.png": lambda file: save(figure, file, "png"),
            f"{NAME}.svg": lambda file: save(figure, file, "svg"),
        }
        if any(one.matrices for one in measured):
            writers[WEIGHTS] = lambda file: write_weights(measured, file)
        files = write_all(args.output, writers)
        if WEIGHTS not in writers:  # those of an earlier call would stand beside other models
            (args.output / WEIGHTS).unlink(missing_ok=True)
    console.print(table(measured))
    for line in not_finite(measured):
        console.print(line, highlight=False, soft_wrap=True)
    if args.picture == "growth":
        print(markdown(list(growth(measured))))
    console.print(*(f"{file}" for file in files), sep="\n", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    main()
