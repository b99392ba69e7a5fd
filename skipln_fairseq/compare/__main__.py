"""Train, test and compare the models of a grid. Runs that exist are not repeated.

    python -m skipln_fairseq.compare examples/evidence/multi30k-connections.yaml
    python -m skipln_fairseq.compare GRID.yaml --report-only      # also while another process is at work
    python -m skipln_fairseq.compare --example > grid.yaml        # a grid to begin with
    python -m skipln_fairseq.compare GRID.yaml --list             # its runs, to start each as a job of a cluster

After an interruption start it again: it goes on, each training from its last checkpoint.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import UserError
from ..common.files import check_folder
from ..common.needs import need
from ..runs import locked, run_resumable

if TYPE_CHECKING:
    from ..runs.settings import Flags

__all__ = ["main"]

VISIBLE = "CUDA_VISIBLE_DEVICES"


class _Example(argparse.Action):
    """Prints the example and exits, as ``--help`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        sys.stdout.write(Path(__file__).with_name("example.yaml").read_text("utf-8"))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.compare",
        description="Train and test all models of a grid, then write the report. Runs that exist are not repeated.",
        allow_abbrev=False,
    )
    parser.add_argument("grid", type=Path, metavar="GRID.yaml", help="the experiment grid")
    parser.add_argument(
        "--example", action=_Example, nargs=0, help="print a small grid that runs in minutes, and exit"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the report (default: runs/compare/GRID)"
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("runs/compare"),
        metavar="DIR",
        help="folder of checkpoints and logs, which grids may share (default: runs/compare)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="runs at a time: on each GPU (default: 1), or on CPUs (default: one for each core)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of each run (default: 1)"
    )
    parser.add_argument(
        "--gpus", nargs="+", type=int, default=[], metavar="N", help="GPUs to use (default: all)"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=5,
        metavar="N",
        help="examples to show in the report (default: 5); 0 where a corpus may not be quoted",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--report-only", action="store_true", help="train nothing; write the report of the runs that exist"
    )
    parts.add_argument("--list", action="store_true", help="check the grid and print its runs, numbered")
    parts.add_argument(
        "--run",
        type=int,
        metavar="N",
        help="only the run of this number, without the report; others may run at the same time, on other machines too",
    )
    return parser


def _places(args: argparse.Namespace, gpus: Sequence[int]) -> list[dict[str, str]]:
    threads = {"OMP_NUM_THREADS": str(args.threads)}
    if gpus:
        places = [{**threads, VISIBLE: _name(gpu)} for gpu in gpus]
        return places * (args.processes or 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [threads] * (args.processes or max(1, cores // args.threads))


def _name(gpu: int) -> str:
    """What CUDA calls it, which counts those that it is allowed to use."""
    allowed = os.environ.get(VISIBLE)
    names = [str(gpu)] if allowed is None else [name.strip() for name in allowed.split(",")]
    number = 0 if allowed is None else gpu
    if gpu < 0 or number >= len(names):
        raise UserError(f"--gpus {gpu}: " + ("valid is 0 or more" if gpu < 0 else f"{VISIBLE} is {allowed}"))
    return names[number]


def _gpus(args: argparse.Namespace, flags: Iterable["Flags"]) -> Sequence[int]:
    """Those that were asked for; else all, unless every training is told to use none."""
    if args.gpus or all(one.get("cpu") for one in flags):
        return args.gpus
    import torch

    return range(torch.cuda.device_count())


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: for a grid or data that cannot be used, and where runs have failed.
    """
    args = _parser().parse_args(arguments)
    need("compare", "yaml", "jinja2", "matplotlib", "pylatexenc", "sacrebleu", "scipy")
    for library in ("matplotlib", "sacrebleu"):  # importing fairseq lets all that they say through
        logging.getLogger(library).setLevel(logging.WARNING)
    from .experiment import Experiment
    from .grid import read_grid
    from .report import write_report
    from .slots import Slots
    from .summary import summarise

    for name, least in (("processes", 1), ("threads", 1), ("samples", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: valid is a whole number of at least {least}")
    package = Path(__file__).parents[1]
    user_dir = str(package.relative_to(Path.cwd()) if package.is_relative_to(Path.cwd()) else package)
    experiment = Experiment(read_grid(args.grid), args.work_dir, user_dir)
    experiment.check()
    output = args.output or args.work_dir / args.grid.stem
    check_folder("--output" if args.output else "--work-dir", output)
    if args.list:
        experiment.check_commands()
        print(*(f"{number}\t{name}" for number, name in enumerate(experiment.names())), sep="\n")
        return
    grid = experiment.grid
    flags = [grid.flags(data, variant) for data in grid.data for variant in grid.variants]
    places = _places(args, _gpus(args, flags))
    failed = 0
    if args.run is not None:
        with locked(args.work_dir, "comparison, of all runs,", shared=True):
            failed = experiment.run_one(args.run, Slots(places[:1]), _say)
        if failed:
            raise UserError(f"run {args.run} failed, as said above")
        return
    if not args.report_only:
        experiment.check_commands()
        with locked(args.work_dir, "comparison"):
            failed = experiment.run(Slots(places), _say)
    for file in write_report(summarise(experiment, args.samples), output):
        print(file)
    if failed:
        raise UserError(f"{failed} runs failed, as said above; the report lacks them")


if __name__ == "__main__":
    run_resumable(main)
