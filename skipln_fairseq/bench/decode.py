"""``decode``: translations a second, over sizes of batch and beam."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..common.errors import UserError
from . import report
from .contestants import Contestant
from .decoding import CONTESTANTS, ON_GPUS, DecodingJob
from .isa import ISAS, emulate
from .options import add_arguments as add_common_arguments
from .options import add_count, check
from .race import race
from .render import print_report
from .shapes import Shape

__all__ = ["HELP", "add_arguments", "run"]

HELP = "translations a second of a checkpoint, contestant by contestant"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's flags."""
    add_common_arguments(parser, "bench/decode.json")
    parser.add_argument("--path", type=Path, required=True, metavar="CHECKPOINT", help="of one of our models")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="binarised, with the sentences"
    )
    parser.add_argument("--gen-subset", default="test", metavar="SPLIT", help="default: test")
    parser.add_argument(
        "--contestants", nargs="+", default=["stock", "fast"], metavar="NAME", help=", ".join(CONTESTANTS)
    )
    for name, usual, text in (("batch-sizes", [1, 8, 64], "sentences"), ("beams", [1, 5], "hypotheses")):
        shown = " ".join(map(str, usual))
        parser.add_argument(
            f"--{name}", nargs="+", type=int, default=usual, metavar="N", help=f"{text} (default: {shown})"
        )
    parser.add_argument(
        "--isa",
        default="native",
        metavar="NAME",
        help=f"measure as if this processor had no more instructions: {', '.join(ISAS)} (default: native)",
    )
    add_count(parser, "starts", 2, "times that all processes are started, each with its rounds")
    add_count(parser, "sentences", 64, "least number of sentences of a round")


@dataclass(frozen=True)
class DecodingHeat:
    """What all contestants of a comparison have in common; see :class:`.race.Heat`."""

    shape: Shape
    job_of_all: DecodingJob
    batches: int
    starts: int
    rounds: int
    warmup: int
    seed: int
    processes: int = 1

    def job(self, contestant: Contestant, rank: int, folder: str) -> DecodingJob:
        """What one process of a contestant does."""
        return replace(self.job_of_all, name=contestant.name, folder=folder)


def _heat(args: Namespace, sentences: int, beam: int) -> DecodingHeat:
    batches = max(2, -(-args.sentences // sentences))
    what = (args.path, args.data, args.gen_subset, sentences, beam, batches, args.threads)
    job = DecodingJob("", *what, folder="", device=args.device, dtype=args.dtype[0])
    counts = {name: getattr(args, name) for name in ("starts", "rounds", "warmup", "seed")}
    return DecodingHeat(Shape(f"batch {sentences}, beam {beam}", (), 0), job, batches, **counts)


def run(args: Namespace, flags: Sequence[str], console) -> None:
    """Measure, write the report after every size, and print it."""
    check(args)
    for name in args.contestants:
        if name not in CONTESTANTS:
            raise UserError(f"--contestants {name}: valid are {', '.join(CONTESTANTS)}")
    if len(set(args.contestants)) < len(args.contestants):
        raise UserError("--contestants: each once")
    if len(args.dtype) > 1:
        raise UserError(f"--dtype {' '.join(args.dtype)}: one at a time")
    if args.device == "cpu" and args.dtype != ["fp32"]:
        raise UserError("--dtype is for --device cuda; on a CPU contestants say their type")
    if args.device == "cuda" and not set(args.contestants) <= ON_GPUS:
        raise UserError(f"--device cuda: valid contestants are {', '.join(sorted(ON_GPUS))}")
    if min(*args.batch_sizes, *args.beams) < 1:
        raise UserError("--batch-sizes, --beams: valid are whole numbers of at least 1")
    if not args.path.is_file():
        raise UserError(f"--path {args.path} does not exist")
    if not args.data.is_dir():
        raise UserError(f"--data {args.data} is no folder")
    emulate(args.isa)
    runners = [Contestant(name, name, ()) for name in args.contestants]
    found = report.new(args, "decoding")
    with console.status("starting") as status:
        for sentences in args.batch_sizes:
            for beam in args.beams:
                heat = _heat(args, sentences, beam)
                runs = report.summarise(race(heat, runners, status.update))
                found["heats"].append({"shape": heat.shape.name, "value": None, "runs": runs})
                report.write(found, args.output)
    print_report(found, console)
    console.print(str(args.output), highlight=False, soft_wrap=True)
