"""A variant of a recipe, trained; an interrupted training goes on."""

import platform
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..common.arguments import whole
from ..common.errors import UserError
from ..runs import locked, progress
from ..runs.built import check_training
from ..runs.settings import words
from .began import go_on
from .commands import USER_DIR, run
from .launcher import Launcher
from .recipe import NOT_HERE, Recipe

__all__ = ["Devices", "folder", "train", "train_command"]


@dataclass(frozen=True)
class Devices:
    """What a training runs on: processes on each node, each a GPU's or a CPU's, and where the nodes meet.

    Args:
        processes: on each node.
        nodes: how many.
        cpu: whether no GPU is used.
        rendezvous: HOST:PORT of the first node, where there are several.
    """

    processes: int = 1
    nodes: int = 1
    cpu: bool = False
    rendezvous: str | None = None

    @property
    def count(self) -> int:
        """Processes on all nodes."""
        return self.processes * self.nodes

    def launcher(self, name: str) -> list[str]:
        """Words before ``fairseq-train``: none for a single process. Nodes meet by the training's name."""
        if self.count == 1:
            return []
        line = ["torchrun", "--nproc_per_node", str(self.processes)]
        if self.nodes > 1:
            if self.rendezvous is None:
                raise UserError("--nodes: give --rendezvous HOST:PORT of the first node, the same on all")
            line += ["--nnodes", str(self.nodes), "--rdzv_backend", "c10d"]
            line += ["--rdzv_endpoint", self.rendezvous, "--rdzv_id", name]
        return [*line, "--no-python"]


def update_freq(recipe: Recipe, devices: Devices, flags: dict) -> int:
    """Batches whose gradients are added up, so that an update has the recipe's number of tokens on any devices, or as
    near to it as whole batches can be.

    Raises:
        UserError: the devices have more tokens in one batch each.
    """
    if not recipe.tokens_per_update:
        return 1
    together = whole("--max-tokens", flags["max-tokens"]) * devices.count
    if together > recipe.tokens_per_update:
        raise UserError(
            f"{devices.count} processes with --max-tokens {flags['max-tokens']} are more than the recipe's "
            f"{recipe.tokens_per_update} tokens an update: "
            f"give --max-tokens {recipe.tokens_per_update // devices.count}"
        )
    return round(recipe.tokens_per_update / together)


def train_flags(
    recipe: Recipe, variant: str, devices: Devices, extra: dict[str, object]
) -> dict[str, object]:
    """Of fairseq-train; ``extra`` overrides the recipe's.

    Raises:
        UserError: there is no such variant, or one is set by the command itself.
    """
    for flag in NOT_HERE:
        if flag in extra:
            raise UserError(f"--{flag}: this command sets it itself")
    recipe.check_variant(variant)
    flags = {**recipe.train, **recipe.variants[variant], **({"cpu": True} if devices.cpu else {}), **extra}
    if devices.cpu:
        flags.pop("fp16", None)
    return flags


def train_command(
    recipe: Recipe, variant: str, seed: int, work_dir: Path, devices: Devices, extra: dict[str, object]
) -> list[str]:
    """The whole line.

    Raises:
        UserError: as :func:`train_flags`, and :func:`update_freq`.
    """
    flags = train_flags(recipe, variant, devices, extra)
    return [
        *devices.launcher(f"{recipe.name}-{variant}-{seed}"),
        *("fairseq-train", str(work_dir / "binary"), "--user-dir", USER_DIR),
        *("--source-lang", recipe.source_lang, "--target-lang", recipe.target_lang),
        *words({**flags, "update-freq": update_freq(recipe, devices, flags)}),
        # unless it is said, fairseq takes one for each GPU that it finds
        *("--distributed-world-size", str(devices.count)),
        *("--seed", str(seed), "--log-format", "json", "--save-dir", str(folder(work_dir, variant, seed))),
    ]


def folder(work_dir: Path, variant: str, seed: int) -> Path:
    """Of a variant's checkpoints and logs."""
    return work_dir / f"{variant}-{seed}"


def train(
    recipe: Recipe,
    variant: str,
    seed: int,
    work_dir: Path,
    devices: Devices,
    extra: dict[str, object],
    say: Callable[[str], None],
) -> Path:
    """Train to the end, or go on; gives the folder.

    Raises:
        UserError: nothing is prepared, fairseq-train refuses the flags, or the training failed.
    """
    if not (work_dir / "binary").exists():
        raise UserError(f"{work_dir / 'binary'} is missing: run prepare first")
    command = train_command(recipe, variant, seed, work_dir, devices, extra)
    flags = train_flags(recipe, variant, devices, extra)
    save_dir = folder(work_dir, variant, seed)
    shaping = dict(flags)
    if recipe.tokens_per_update:
        shaping.pop("max-tokens")  # the devices decide it
        tokens = (
            update_freq(recipe, devices, flags) * whole("--max-tokens", flags["max-tokens"]) * devices.count
        )
        if tokens != recipe.tokens_per_update:
            say(f"an update has {tokens} tokens on these devices, {recipe.tokens_per_update} in the recipe")
    updates = whole("--max-update", flags["max-update"]) if "max-update" in flags else None
    # before it is compared with what began here: a misspelt flag is no other training
    check_training(f"recipes train {recipe.name}", command[command.index("fairseq-train") + 1 :])
    # several nodes are one training, in one folder; each has a log of its own
    alone = devices.nodes == 1
    log = "train.log" if alone else f"train-{platform.node()}.log"
    with (
        locked(save_dir, "training") if alone else nullcontext(),
        tqdm(total=updates, unit=" updates", desc=save_dir.name) as bar,
    ):
        go_on(save_dir, work_dir, shaping)

        launcher = Launcher()

        def on_line(line: str) -> None:
            launcher.heard(line)
            if told := progress(line):
                bar.n, loss = told
                bar.set_postfix({"loss": loss}, refresh=True)

        run(command, save_dir / log, say, on_line, on_start=launcher.started)
    return save_dir
