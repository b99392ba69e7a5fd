"""A way to run fairseq's commands that is not slow.

Each fairseq process spends seconds on imports. :func:`run` forks them from a server that has imported
fairseq once, and never this package, so that ``--user-dir`` does in each command what it does for a user.
"""

import atexit
import importlib
import json
import multiprocessing
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of the server too: a process with running threads must not fork

REPOSITORY = Path(__file__).resolve().parents[2]
USER_DIR = REPOSITORY / "skipln_fairseq"
COMMANDS = ("train", "preprocess", "generate", "interactive", "validate", "score", "eval_lm")

SERVER = multiprocessing.get_context("forkserver")
# fairseq_cli.train first: it sets up logging as a user sees it, and only the first one to do so has an effect
IMPORTS = [*(f"fairseq_cli.{command}" for command in COMMANDS), "pytest", "sacrebleu"]
# which torch imports for seconds when an optimizer is made, and in each process that loads data
SERVER.set_forkserver_preload([*IMPORTS, "torch._dynamo"])

TRAIN = [
    *("--arch", "transformer_rskip_tiny", "--optimizer", "adam", "--lr", "0.002", "--cpu"),
    *("--batch-size", "16", "--max-epoch", "1", "--num-workers", "0"),
    *("--log-format", "json", "--log-interval", "1"),
]
EVAL_BLEU = ["--eval-bleu", "--eval-bleu-print-samples", '--eval-bleu-args={"beam": 2, "max_len_b": 20}']
SIZES = {"train": 180, "valid": 12, "test": 15}  # none of them a multiple of the batch size, or of 8


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it printed on both streams."""

    status: int
    output: str

    def lines(self, kind: str) -> list[str]:
        """Its lines that begin with *kind*, as ``"H"`` in fairseq-generate."""
        return [line for line in self.output.splitlines() if line.startswith(f"{kind}-")]

    def logged(self, kind: str) -> list[dict[str, str]]:
        """The JSON logged under *kind*: ``train_inner``, ``train`` or ``valid``."""
        return [json.loads(entry) for entry in re.findall(rf"\| {kind} \| (\{{.*\}})", self.output)]

    def losses(self) -> list[tuple[str, str]]:
        """Number and loss of every update."""
        return [(entry["num_updates"], entry["loss"]) for entry in self.logged("train_inner")]


def run(command: str, *arguments, user_dir=USER_DIR, succeeds=True, stdin=b"", env=None) -> Finished:
    """Run ``fairseq-…``, ``-m MODULE`` or ``-c CODE`` in a process forked from the server."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "stdin").write_bytes(stdin)
        process = start(folder, command, *arguments, user_dir=user_dir, env=env)
        return wait(folder, process, succeeds)


def start(folder, command: str, *arguments, user_dir=USER_DIR, env=None) -> multiprocessing.Process:
    """Start what :func:`run` runs; ``stdin`` and ``output`` are files in *folder*."""
    Path(folder, "stdin").touch()
    argv = command_line(command, arguments, user_dir)
    process = SERVER.Process(target=forked, args=(argv, str(folder), env or {}))
    process.start()
    return process


def wait(folder, process: multiprocessing.Process, succeeds=True) -> Finished:
    """Wait for a started command."""
    process.join(timeout=200)
    process.kill()
    process.join()
    return checked(Finished(process.exitcode, Path(folder, "output").read_text(errors="replace")), succeeds)


def run_isolated(command: str, *arguments, user_dir=USER_DIR, succeeds=True, stdin=b"", env=None) -> Finished:
    """The same in a process of its own, with the script that pip installed: as a user, and slowly."""
    script, *rest = command_line(command, arguments, user_dir)
    scripts = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    installed = shutil.which(script, path=scripts)
    program = [installed] if installed else [sys.executable, script]
    done = subprocess.run(
        [*program, *rest],
        input=stdin,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    return checked(Finished(done.returncode, done.stdout.decode()), succeeds)


def command_line(command: str, arguments, user_dir) -> list[str]:
    takes_user_dir = command.startswith("fairseq-") and command != "fairseq-score" and user_dir is not None
    return [command, *map(str, arguments), *(["--user-dir", str(user_dir)] if takes_user_dir else [])]


def checked(finished: Finished, succeeds: bool) -> Finished:
    assert (finished.status == 0) == succeeds, finished.output[-5000:]
    return finished


def forked(argv: list[str], folder: str, env: dict[str, str]) -> None:
    """In the forked process: become the command."""
    for descriptor, name, mode in ((0, "stdin", os.O_RDONLY), (1, "output", os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(Path(folder, name), mode), descriptor)
    os.dup2(1, 2)
    sys.stdout.reconfigure(line_buffering=True)  # or a log line lands in the midst of a printed one
    sys.stdin = os.fdopen(0)
    os.environ.update(env)
    # the interpreter's default: workers would be forked from one more server, which takes seconds to start
    multiprocessing.set_start_method(None, force=True)
    command, *rest = sys.argv = argv
    try:
        if command == "-m":
            sys.argv = rest
            sys.path.insert(0, str(REPOSITORY))
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif command == "-c":
            sys.path.insert(0, str(REPOSITORY))
            exec(rest[0], {"__name__": "__main__"})
        else:
            importlib.import_module(command.replace("-", "_cli.", 1).replace("-", "_")).cli_main()
        status = 0
    except SystemExit as exit:
        status = exit.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as the interpreter would
        status = 1
    atexit._run_exitfuncs()  # multiprocessing leaves them out, and tensorboard's writer needs them
    sys.exit(status)


def preprocess(texts: Path, folder: Path, *more, run=run, **how) -> Finished:
    """fairseq-preprocess of *texts* to *folder*, with one dictionary for both languages."""
    prefixes = (f"--{split}pref={texts / split}" for split in SIZES)
    flags = ("-s", "en", "-t", "de", "--joined-dictionary", "--destdir", folder)
    return run("fairseq-preprocess", *flags, *prefixes, *more, **how)


@dataclass(frozen=True)
class Trained:
    """A run of fairseq-train: its folder of checkpoints, and what it printed."""

    folder: Path
    printed: Finished

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint_last.pt"
