"""A variant of a recipe, trained; an interrupted training goes on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from skipln_fairseq.errors import UserError
from skipln_fairseq.runs import record, remove_damaged
from skipln_fairseq.runs.settings import words

from .commands import USER_DIR, run
from .recipe import NOT_HERE, Recipe

__all__ = ["Devices", "train", "train_command"]


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
    def launcher(self) -> list[str]:
        """Words before ``fairseq-train``: none for a single process."""
        if self.processes * self.nodes == 1:
            return []
        line = ["torchrun", "--nproc_per_node", str(self.processes)]
        if self.nodes > 1:
            if self.rendezvous is None:
                raise UserError("--nodes: give --rendezvous HOST:PORT of the first node, the same on all")
            line += [
                "--nnodes",
                str(self.nodes),
                "--rdzv_backend",
                "c10d",
                "--rdzv_endpoint",
                self.rendezvous,
            ]
        return [*line, "--no-python"]


def update_freq(recipe: Recipe, devices: Devices, flags: dict) -> int:
    """Batches whose gradients are added up, so that an update has the recipe's number of tokens on any devices, or as
    near to it as whole batches can be.

    Raises:
        UserError: the devices have more tokens in one batch each.
    """
    if not recipe.tokens_per_update:
        return 1
    processes = devices.processes * devices.nodes
    together = int(flags["max-tokens"]) * processes
    if together > recipe.tokens_per_update:
        raise UserError(
            f"{processes} processes with --max-tokens {flags['max-tokens']} are more than the recipe's "
            f"{recipe.tokens_per_update} tokens an update: give --max-tokens {recipe.tokens_per_update // processes}"
        )
    return round(recipe.tokens_per_update / together)


def train_command(
    recipe: Recipe, variant: str, seed: int, work_dir: Path, devices: Devices, extra: dict[str, object]
) -> list[str]:
    """The whole line; ``extra`` overrides the recipe's flags.

    Raises:
        UserError: there is no such variant.
    """
    for flag in NOT_HERE:
        if flag in extra:
            raise UserError(f"--{flag}: this command sets it itself")
    if variant not in recipe.variants:
        raise UserError(f"--variant {variant}: valid are {', '.join(recipe.variants)}")
    flags = {**recipe.train, **recipe.variants[variant], **({"cpu": True} if devices.cpu else {}), **extra}
    if devices.cpu:
        flags.pop("fp16", None)
    return [
        *devices.launcher,
        *("fairseq-train", str(work_dir / "binary"), "--user-dir", USER_DIR),
        *("--source-lang", recipe.source_lang, "--target-lang", recipe.target_lang),
        *words({**flags, "update-freq": update_freq(recipe, devices, flags)}),
        *("--seed", str(seed), "--log-format", "json", "--save-dir", str(folder(work_dir, variant, seed))),
    ]


def folder(work_dir: Path, variant: str, seed: int) -> Path:
    """Of a variant's checkpoints and logs."""
    return work_dir / f"{variant}-{seed}"


def _refuse_others(save_dir: Path, command: list[str], work_dir: Path, devices: Devices) -> None:
    """A folder's run goes on with the flags and the data that it began with, whatever the devices.

    Raises:
        UserError: it began with others.
    """
    free = ("update-freq", "max-tokens", "max-update", "max-epoch", "cpu", "fp16", "bf16")
    flags = command[command.index("fairseq-train") + 2 :]
    pairs = [line.strip() for line in " ".join(flags).split("--") if line.strip()]
    shape = {
        "data": (work_dir / "binary").resolve().parent.name,
        "flags": sorted(pair for pair in pairs if pair.split()[0] not in free),
    }
    record = save_dir / "settings.json"
    if record.is_file():
        before = json.loads(record.read_text("utf-8"))
        changed = set(before["flags"]) ^ set(shape["flags"])
        changed |= {"data"} if before["data"] != shape["data"] else set()
        if changed:
            raise UserError(
                f"{save_dir} was begun otherwise ({', '.join(sorted(changed))}): give another --work-dir or --seed, "
                "or remove it"
            )
        return
    save_dir.mkdir(exist_ok=True)
    record.write_text(json.dumps(shape, indent=1) + "\n", "utf-8")


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
        UserError: nothing is prepared, or the training failed.
    """
    if not (work_dir / "binary").exists():
        raise UserError(f"{work_dir / 'binary'} is missing: run prepare first")
    command = train_command(recipe, variant, seed, work_dir, devices, extra)
    save_dir = folder(work_dir, variant, seed)
    _refuse_others(save_dir, command, work_dir, devices)
    remove_damaged(save_dir)
    if recipe.tokens_per_update:
        flags = {**recipe.train, **recipe.variants[variant], **extra}
        freq = update_freq(recipe, devices, flags)
        tokens = freq * int(flags["max-tokens"]) * devices.processes * devices.nodes
        if tokens != recipe.tokens_per_update:
            say(f"an update has {tokens} tokens on these devices, {recipe.tokens_per_update} in the recipe")
    updates = {**recipe.train, **recipe.variants[variant], **extra}.get("max-update")
    with tqdm(total=int(updates) if updates else None, unit=" updates", desc=save_dir.name) as bar:

        def on_line(line: str) -> None:
            found = record(line)
            if found and "num_updates" in found:
                bar.n = int(found["num_updates"])
                bar.set_postfix({"loss": found.get("loss")}, refresh=True)

        run(command, save_dir / "train.log", say, on_line)
    return save_dir
