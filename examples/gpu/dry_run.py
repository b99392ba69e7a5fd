"""A GPU training without a GPU: an update of every member of the family by fairseq's trainer, on fake tensors.

    python -m examples.gpu.dry_run
    python -m examples.gpu.dry_run --dtype fp16 --only recursive deepnorm --lines

No number is computed: every tensor has a shape, a type and a device, and each operation is refused whose tensors do not
go together on a GPU. Parameters, gradients, the optimizer's numbers and the activations between layers have to have the
device and type of the training, and what the host waits for is counted, beside fairseq's own ``transformer``. The exit
status says whether all members passed, with no more of it than fairseq's own.
"""

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence

from . import pretend

__all__ = ["main"]

TYPES = ("fp32", "fp16", "bf16")


def _report(name: str, found, stock, lines: bool) -> bool:
    """Print what was found; whether all is well, and nothing waits or copies that does not in fairseq's own."""
    waits, copies, kernels = (counted.total() for counted in (found.waits, found.copies, found.kernels))
    print(f"{waits:5d} waits {copies:4d} copies {kernels:4d} kernels  {name}", flush=True)
    for text in found.wrong:
        print(f"      wrong: {text}")
    for counted, same in ((found.waits, stock.waits), (found.copies, stock.copies)):
        for place, count in counted.most_common():
            if lines or count > same[place]:
                print(f"      {count} at {place}")
    return not found.wrong and waits <= stock.waits.total() and copies <= stock.copies.total()


def _in_type(dtype: str, only: Sequence[str] | None, lines: bool) -> bool:
    """Update all in this type; whether all passed."""
    from skipln_fairseq.common.errors import UserError

    from .update import FAMILY, STOCK, update

    logging.getLogger().setLevel(logging.ERROR)  # importing fairseq has raised it
    print(f"{dtype}:")
    stock = update(STOCK, dtype)
    good = _report("stock", stock, stock, lines=True)
    for one in FAMILY:
        if only is None or one.series in only:
            try:
                good &= _report(one.name, update(one, dtype), stock, lines)
            except UserError as refusal:
                print(f"{'refused':>34s}  {one.name}: {refusal}")
    return good


def _refuse_unknown(only: Sequence[str]) -> None:
    """End in one line where no member has one of these choices."""
    from .update import FAMILY

    known = dict.fromkeys(one.series for one in FAMILY)
    for name in only:
        if name not in known:
            sys.exit(f"--only {name}: valid are {', '.join(known)}")


def main(argv: Sequence[str] | None = None) -> bool:
    """The command line; whether all members passed."""
    summary = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m examples.gpu.dry_run", description=summary)
    parser.add_argument(
        "--dtype", nargs="+", default=TYPES, choices=TYPES, help=f"default: {', '.join(TYPES)}"
    )
    parser.add_argument("--only", nargs="+", metavar="CHOICE", help="members by their choice; else all")
    parser.add_argument("--lines", action="store_true", help="print each line that waits or copies")
    args = parser.parse_args(argv)
    try:
        pretend.load()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"the pretended GPU could not be compiled: {error}")
    _refuse_unknown(args.only or ())
    passed = [_in_type(dtype, args.only, args.lines) for dtype in args.dtype]
    return all(passed)


if __name__ == "__main__":
    sys.exit(not main())
