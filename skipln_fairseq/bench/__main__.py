"""Time and memory of training and decoding, beside fairseq's own ``transformer``.

    python -m skipln_fairseq.bench
    python -m skipln_fairseq.bench --shapes tiny --contestants stock plain order-2 --rounds 20
    python -m skipln_fairseq.bench family --shapes tiny
    python -m skipln_fairseq.bench grow depth --shapes iwslt
    python -m skipln_fairseq.bench draw bench/grow-depth.json
    python -m skipln_fairseq.bench leave --dtype fp32 bf16
    python -m skipln_fairseq.bench decode --path checkpoints/checkpoint_best.pt --data data
    python -m skipln_fairseq.bench profile --contestants stock order-2+fused+bf16

Contestants train side by side as processes of one tree, and take turns step by step, in a new order for every batch;
what slows the machine down hits all of them, and ratios compare the turns of one round.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from ..common.needs import need
from . import decode, draw, family, grow, histogram, leave, profile, table, train

__all__ = ["main"]

COMMANDS = {
    "train": train,
    "family": family,
    "grow": grow,
    "leave": leave,
    "profile": profile,
    "decode": decode,
    "draw": draw,
    "table": table,
    "histogram": histogram,
}
TRAINING = ("train", "family", "grow", "profile")
PROGRAM = "python -m skipln_fairseq.bench"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.partition("\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        more = " Every other flag is one of fairseq-train's and holds for all contestants."
        command.add_arguments(
            commands.add_parser(
                name,
                help=command.HELP,
                description=command.HELP + "." + (more if name in TRAINING else ""),
                allow_abbrev=False,
            )
        )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "train")
    parser = _parser()
    args, flags = parser.parse_known_args(argv)
    if flags and args.command not in TRAINING:
        parser.error(f"unrecognized arguments: {' '.join(flags)}")
    need("probe", *(("matplotlib",) if args.command == "draw" else ()), "rich")
    from rich.console import Console

    COMMANDS[args.command].run(args, flags, Console())


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    main()
