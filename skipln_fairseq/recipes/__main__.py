"""From public corpora to BLEU.

    python -m skipln_fairseq.recipes prepare multi30k-en-de
    python -m skipln_fairseq.recipes train multi30k-en-de --variant rskip
    python -m skipln_fairseq.recipes evaluate multi30k-en-de --variant rskip
    python -m skipln_fairseq.recipes generate FOLDER      # a corpus where there is no network

Data are prepared once, a training goes on where it was interrupted, an evaluation begins anew. What a recipe is:
:mod:`.recipe`. ``show own-data`` prints the one to copy for your own text.
"""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import UserError
from ..common.needs import need
from ..runs import locked, run_resumable
from .generated import write_corpus

if TYPE_CHECKING:
    from .recipe import Recipe

KNOWN = Path(__file__).parent / "yaml"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skipln_fairseq.recipes", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "show": "the recipe, to copy it",
        "prepare": "the data",
        "train": "a variant",
        "evaluate": "a trained variant",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        command.add_argument("recipe", help=f"one of {', '.join(_known())}, or a file like them")
        if name == "show":
            continue
        command.add_argument("--work-dir", type=Path, help="of all that is made, instead of the recipe's")
        if name == "prepare":
            command.add_argument("--from", type=Path, dest="local", help="folder with the recipe's files")
            command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
        else:
            command.add_argument("--variant", default="rskip", help="rskip unless given")
            command.add_argument("--seed", type=int, default=1, help="1 unless given")
            command.add_argument("--cpu", action="store_true", help="without a GPU")
    command = commands.add_parser("generate", help="the files of generated-en-de", allow_abbrev=False)
    command.add_argument("folder", type=Path, help="a new folder, to give to prepare --from")
    training = commands.choices["train"]
    training.add_argument("--processes", type=int, default=1, help="on each node: GPUs, or CPU processes")
    training.add_argument("--nodes", type=int, default=1, help="machines")
    training.add_argument("--rendezvous", metavar="HOST:PORT", help="of the first node")
    training.epilog = "Any other flag is fairseq-train's and overrides the recipe's."
    commands.choices["evaluate"].add_argument(
        "--comet", action="store_true", help="COMET too, where installed"
    )
    return parser


def _known() -> list[str]:
    return sorted(file.stem for file in KNOWN.glob("*.yaml"))


def _file(name: str) -> Path:
    """The user's own, or one of those that come with the package."""
    for file in (Path(name), KNOWN / f"{name}.yaml"):
        if file.is_file():
            return file
    raise UserError(f"{name}: no such recipe: valid are {', '.join(_known())}, or a file")


def _flags(rest: list[str]) -> dict[str, object]:
    """``--lr 0.1 --cpu`` as a mapping."""
    flags: dict[str, object] = {}
    name = None
    for word in rest:
        if word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            flags[name] = value or True
        elif name is None or flags[name] is not True:
            raise UserError(f"{word}: valid are fairseq-train's flags, --name value")
        else:
            flags[name] = word
    return flags


def main(arguments: list[str] | None = None) -> None:
    """Run a step.

    Raises:
        UserError: for bad input, and for a step that failed.
    """
    args, rest = _parser().parse_known_args(arguments)
    extra = _flags(rest)
    if extra and args.command != "train":
        raise UserError(f"--{next(iter(extra))}: {args.command} has no such flag")
    for name in ("workers", "processes", "nodes"):
        if getattr(args, name, 1) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: valid is a whole number of at least 1")
    if not 0 <= getattr(args, "seed", 1) < 2**32:  # which numpy and torch take
        raise UserError(f"--seed {args.seed}: valid is a whole number of at least 0, below 2³²")
    if args.command == "generate":
        print(*write_corpus(args.folder), sep="\n")
        return
    file = _file(args.recipe)
    if args.command == "show":
        print(file.read_text("utf-8"), end="")
        return
    need("recipes", "sacremoses", "sentencepiece", "subword_nmt", "sacrebleu", "tqdm", "yaml")
    from .recipe import read_recipe

    _run(args, read_recipe(file), extra)


def _run(args: argparse.Namespace, recipe: "Recipe", extra: dict[str, object]) -> None:
    from .evaluate import evaluate
    from .prepare import prepare
    from .train import Devices, train

    work_dir = args.work_dir or recipe.work_dir

    def say(line: str) -> None:
        print(line, flush=True)

    if args.command == "prepare":
        with locked(work_dir, "preparation"):
            say(f"{prepare(recipe, work_dir, args.local, args.workers, say)}")
    elif args.command == "train":
        devices = Devices(args.processes, args.nodes, args.cpu, args.rendezvous)
        say(f"{train(recipe, args.variant, args.seed, work_dir, devices, extra, say)}")
    else:
        scores = evaluate(recipe, args.variant, args.seed, work_dir, args.cpu, args.comet, say)
        shown = {name: round(one, 2) if isinstance(one, float) else one for name, one in scores.items()}
        say(json.dumps(shown, indent=1))


if __name__ == "__main__":
    run_resumable(main)
