"""Gradients, activations and the proportion x : F, sub-layer by sub-layer.

    python -m skipln_fairseq.probe
    python -m skipln_fairseq.probe --variant "Post-LN: --skip-type plain" --variant "3: --skip-order 3" --depths 6 10
    python -m skipln_fairseq.probe --path checkpoints/checkpoint_best.pt --data data

Without a model it draws the gradients at initialisation: of the last feed-forward weight over the depth (Xiong et
al. 2020), and of every sub-layer of models that scale x, without norm and with LN (Liu et al. 2020).
"""

import argparse
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..common.errors import UserError
from ..common.files import write_all
from ..common.needs import need
from .subject import Batch, Measured, Variant, measure_checkpoint, measure_variant, unnamed, variant

__all__ = ["main"]

NAME = "probe"


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
        "--depths", nargs="+", type=int, metavar="N", help="layers of each side; else the architecture's own"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="models of each kind, 5 unless given"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="take the batch from binarised data")
    parser.add_argument("--split", default="valid", help="of that data, valid unless given")
    parser.add_argument("--sentences", type=int, default=8, metavar="N", help="of the batch, 8 unless given")
    parser.add_argument(
        "--length", type=int, default=16, metavar="N", help="of random sentences, 16 unless given"
    )
    parser.add_argument(
        "--words", type=int, default=256, metavar="N", help="random vocabulary, 256 unless given"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(NAME), metavar="DIR", help=f"folder, {NAME} unless given"
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
    if args.data is not None and not args.data.is_dir():
        raise UserError(f"--data {args.data}: no such folder")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file: name a folder")
    names = [variant(text).name for text in args.variant]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--variant {name}: two variants have this name")


def _fresh(
    variants: Sequence[Variant], flags: Sequence[str], depths, args, batch: Batch
) -> Iterator[Measured]:
    for one, depth in itertools.product(variants, depths):
        with_flags = Variant(one.name, (*flags, *one.flags))
        yield from measure_variant(with_flags, depth, range(1, args.seeds + 1), batch)


def _measure(args: argparse.Namespace, flags: Sequence[str]):
    """All measurements, and the panels that show them."""
    # imported here, so that a missing matplotlib can be said in one line first
    from .picture import PICTURE_DEPTHS, PICTURE_WIDTH, SCALED, XIONG, default_panels, panels

    batch = Batch(args.sentences, args.length, args.words, args.data, args.split)
    if args.path:
        names = [
            file.stem if len({f.stem for f in args.path}) == len(args.path) else str(file)
            for file in args.path
        ]
        measured = [
            one
            for file, name in zip(args.path, names, strict=True)
            for one in measure_checkpoint(file, name, range(1, args.seeds + 1), batch)
        ]
        return measured, panels(measured)
    if args.variant or flags:
        variants = [variant(text) for text in args.variant] or [unnamed(flags)]
        measured = list(_fresh(variants, flags, args.depths or [None], args, batch))
        return measured, panels(measured)
    depths = args.depths or PICTURE_DEPTHS
    xiong = list(_fresh(XIONG, PICTURE_WIDTH, depths, args, batch))
    scaled = list(_fresh(SCALED, PICTURE_WIDTH, [min(depths)], args, batch))
    return [*xiong, *scaled], default_panels(xiong, scaled)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args, flags = _parser().parse_known_args(argv)
    _check(args, flags)
    need("probe", "matplotlib", "rich")
    from rich.console import Console

    from .draw import draw, save
    from .table import table, write_csv

    console = Console()
    with console.status("measuring"):
        measured, panels = _measure(args, flags)
        figure = draw(panels)
        files = write_all(
            args.output,
            {
                f"{NAME}.csv": lambda file: write_csv(measured, file),
                f"{NAME}.png": lambda file: save(figure, file, "png"),
                f"{NAME}.svg": lambda file: save(figure, file, "svg"),
            },
        )
    console.print(table(measured))
    console.print(*(f"{file}" for file in files), sep="\n", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    main()
