"""The models to measure: fresh ones from flags, or checkpoints."""

import copy
import itertools
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fairseq import checkpoint_utils, criterions, options, tasks
from fairseq.models import ARCH_MODEL_REGISTRY, FairseqLanguageModel
from torch import Tensor, nn

from ..common.arguments import refuse_in_one_line
from ..common.errors import UserError
from ..compat.checkpoints import IMPOSSIBLE, reason
from .batch import RandomTask, data_batch, random_batch
from .measure import Reading, measure
from .watch import sub_layers
from .weights import Matrix, matrices

__all__ = ["Batch", "Measured", "Variant", "measure_checkpoint", "measure_variant", "unnamed", "variant"]

ARCH = "transformer_rskip"
SIDES = ("encoder", "decoder")


@dataclass(frozen=True)
class Variant:
    """A name for the legend and the flags of fairseq-train that it stands for."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """The batch to take.

    Attributes:
        sentences: its size.
        length: words of a random sentence.
        words: size of the random vocabulary.
        data: folder of binarised data; None for a random batch.
        split: of that data.
    """

    sentences: int = 8
    length: int = 16
    words: int = 256
    data: Path | None = None
    split: str = "valid"


@dataclass(frozen=True)
class Measured:
    """One model's readings.

    Attributes:
        variant: its name.
        flags: what it was built from; of a checkpoint its file.
        layers: of encoder and decoder, 0 for a side that is not there.
        seed: of its parameters (not of a checkpoint's) and of the batch.
        readings: of all sub-layers, encoder first.
        matrices: the weights between blocks, by side, see :mod:`.weights`.
    """

    variant: str
    flags: str
    layers: tuple[int, int]
    seed: int
    readings: list[Reading]
    matrices: dict[str, Matrix] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """The layers of the deeper side."""
        return max(self.layers)

    @property
    def last_fc2_gradient(self) -> float | None:
        """The gradient norm of the last layer's last feed-forward weight."""
        return self.readings[-1].fc2_gradient_norm


def variant(text: str) -> Variant:
    """Read ``NAME: FLAGS``."""
    name, colon, flags = text.partition(":")
    if not (name.strip() and colon):
        raise UserError(
            f"--variant {text!r}: valid is 'NAME: FLAGS', for instance 'Post-LN: --skip-type plain'"
        )
    return Variant(name.strip(), tuple(flags.split()))


def _last_value(flags: Sequence[str], flag: str, default: str) -> str:
    """The value of a flag that may be given as two words or with ``=``, the last one given."""
    found = default
    for word, following in itertools.zip_longest(flags, flags[1:], fillvalue=""):
        if word == flag:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def unnamed(flags: Sequence[str]) -> Variant:
    """The one model of a call that names no variant, called as its architecture; its flags are in the call."""
    return Variant(_last_value(flags, "--arch", ARCH), ())


def parse(wanted: Variant, batch: Batch) -> Namespace:
    """The namespace that fairseq-train makes of a variant's flags.

    Raises:
        UserError: for an unknown architecture, or what fairseq's parser refuses.
    """
    arch = _last_value(wanted.flags, "--arch", ARCH)
    if arch not in ARCH_MODEL_REGISTRY:
        raise UserError(f"{wanted.name}: --arch {arch} is unknown; {ARCH} is what it is without the flag")
    task = (
        "language_modeling" if issubclass(ARCH_MODEL_REGISTRY[arch], FairseqLanguageModel) else "translation"
    )
    parser = options.get_training_parser()
    refuse_in_one_line(parser, wanted.name)
    flags = (str(batch.data or "random"), "--task", task, "--arch", arch, *wanted.flags)
    return options.parse_args_and_arch(parser, list(flags))


def _task(args: Namespace, batch: Batch):
    if batch.data is None:
        return RandomTask(batch.words)
    with _folder_in_one_line(str(batch.data)):
        return tasks.setup_task(args)


@contextmanager
def _folder_in_one_line(folder: str) -> Iterator[None]:
    """Say in one line that a data folder does not hold what its task needs."""
    try:
        yield
    except Exception as error:
        # fairseq raises a bare Exception where it cannot tell the languages
        if type(error) is not Exception and not isinstance(error, OSError | AssertionError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"--data {folder}: {reason}") from error


def _read(model: nn.Module, criterion, task, batch: Batch, seed: int) -> list[Reading]:
    if not sub_layers(model):
        raise UserError(
            f"{type(model).__name__} has no layers of this plugin's Transformers: take "
            f"--arch {ARCH} --skip-type plain, which is bit-identical to fairseq's transformer"
        )
    if batch.data is None:
        translates = not isinstance(model, FairseqLanguageModel)
        sample = random_batch(task, batch.sentences, batch.length, seed, translates)
    else:
        sample = data_batch(task, batch.split, batch.sentences, seed)

    def mean_loss(model: nn.Module) -> Tensor:
        total, size, _ = criterion(model, sample)
        return total / size

    return measure(model, mean_loss)


@contextmanager
def _variant_in_one_line(wanted: Variant) -> Iterator[None]:
    """Say in one line that flags make no model, or none that this loss can be had of."""
    try:
        yield
    except UserError:
        raise
    except IMPOSSIBLE as error:
        raise UserError(
            f"{wanted.name}: these flags make no model, or none to measure ({reason(error)})"
        ) from error


def _layers(model: nn.Module) -> tuple[int, int]:
    return tuple(len(getattr(model, side).layers) if hasattr(model, side) else 0 for side in SIDES)


def measure_variant(
    wanted: Variant, depth: int | None, seeds: Sequence[int], batch: Batch
) -> Iterator[Measured]:
    """A fresh model of each seed.

    Args:
        wanted: the flags.
        depth: layers of each side; None for the architecture's own.
        seeds: of parameters and batch.
        batch: what to measure on.
    """
    args = parse(wanted, batch)
    for side in SIDES:
        if depth is not None and hasattr(args, f"{side}_layers"):
            setattr(args, f"{side}_layers", depth)
    task = _task(args, batch)
    for seed in seeds:
        torch.manual_seed(seed)
        with _variant_in_one_line(wanted):
            model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
            criterion = criterions.build_criterion(args, task)
            readings = _read(model, criterion, task, batch, seed)
        yield Measured(wanted.name, " ".join(wanted.flags), _layers(model), seed, readings, matrices(model))


def measure_checkpoint(
    file: Path, name: str, seeds: Sequence[int], batch: Batch, untrained: bool = False
) -> Iterator[Measured]:
    """A trained model on a batch of each seed.

    Its dictionaries are those of ``batch.data``, or of the folder that it was trained on.

    Args:
        file: the checkpoint.
        name: of the model.
        seeds: of the batches, and of the untrained models' parameters.
        batch: what to measure on.
        untrained: measure models of the same flags on the same batches first.
    """
    if not file.is_file():
        raise UserError(f"--path {file}: no such file")
    overrides = {} if batch.data is None else {"data": str(batch.data)}
    with _folder_in_one_line(str(batch.data or f"(not given, so the one of {file})")):
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(file)], overrides)
    criterion = task.build_criterion(cfg.criterion)
    layers = _layers(models[0])
    for seed in seeds if untrained else ():
        torch.manual_seed(seed)
        model = task.build_model(cfg.model)
        readings = _read(model, criterion, task, batch, seed)
        yield Measured(f"{name}, untrained", str(file), layers, seed, readings, matrices(model))
    for seed in seeds:
        readings = _read(copy.deepcopy(models[0]), criterion, task, batch, seed)  # measuring changes a model
        yield Measured(name, str(file), layers, seed, readings, matrices(models[0]))
