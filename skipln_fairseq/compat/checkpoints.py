"""torch ≥ 2.6 unpickles nothing but tensors unless it is told what is harmless: tell it, and no more.

All that a file holds is data, also for fairseq: its flags pass :func:`.stored_flags.check_flags` and its tensors
:func:`.stored_tensors.check_tensors` before fairseq sees them, and the model is built within an
:class:`.stored_tensors.Allowance`. What one process of a run has read and hands on to the others is no file, and is
taken as it is.
"""

import contextlib
import functools
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, models
from fairseq.distributed import utils as distributed_utils
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around
from skipln_fairseq.compat.stored_flags import check_flags
from skipln_fairseq.compat.stored_tensors import Allowance, check_tensors
from skipln_fairseq.compat.stored_types import HARMLESS

__all__ = ["IMPOSSIBLE", "apply", "explain_refusal", "read_checkpoint", "reason"]

# What torch and fairseq raise on a file that is cut short, or that something else than fairseq wrote.
UNREADABLE = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    SyntaxError,
    struct.error,
    OmegaConfBaseException,
    HydraException,
)
# And on flags that describe no model, or not the one whose parameters are there.
IMPOSSIBLE = (*UNREADABLE, AssertionError, ArithmeticError, MemoryError)


@dataclass
class Loading:
    """A model that is being loaded: the file, and its parameters once they are read."""

    file: str
    parameters: dict[str, Tensor] | None = None
    builds: bool = False


CURRENT: ContextVar[Loading | None] = ContextVar("CURRENT", default=None)


def apply() -> None:
    """Let the harmless types in, and refuse everything else in one line.

    fairseq's commands, its trainer and its hub all go through ``checkpoint_utils.load_checkpoint_to_cpu``.
    """
    torch.serialization.add_safe_globals(HARMLESS)

    @around(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(stock, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        loading = CURRENT.get()
        _refuse_while_building(path)
        if loading:
            loading.file = str(path)
        with explain_refusal(path), _of_file(path), _loads_by(functools.partial(_read, torch.load)):
            state = stock(path, *args, **kwargs)
        if loading:
            loading.parameters = state["model"]
        return state

    @around(checkpoint_utils, "load_model_ensemble_and_task")
    def load_model_ensemble_and_task(
        stock,
        filenames: list[str],
        arg_overrides: dict[str, Any] | None = None,
        task: Any = None,
        strict: bool = True,
        suffix: str = "",
        num_shards: int = 1,
        state: dict[str, Any] | None = None,
    ) -> Any:
        _refuse_while_building(filenames[0])
        loading = Loading(str(filenames[0]), state and state["model"])
        before = CURRENT.set(loading)
        try:
            return stock(filenames, arg_overrides, task, strict, suffix, num_shards, state)
        except UserError:
            with _of_file(loading.file):
                raise
        except IMPOSSIBLE as error:
            raise UserError(f"{loading.file} makes no model ({reason(error)})") from error
        finally:
            CURRENT.reset(before)

    @around(models, "build_model")
    def build_model(stock, *args: Any, **kwargs: Any) -> Any:
        loading = CURRENT.get()
        if loading is None or loading.parameters is None:
            return stock(*args, **kwargs)
        loading.builds = True
        with _of_file(loading.file), Allowance(loading.parameters):
            model = stock(*args, **kwargs)
        loading.builds = False
        return model

    @around(distributed_utils, "_broadcast_object_slow")
    def broadcast_object(stock, *args: Any, **kwargs: Any) -> Any:
        # what another process of this run has read, with the check above, and hands on to resume from
        with _loads_by(functools.partial(torch.load, weights_only=False)):
            return stock(*args, **kwargs)


def _refuse_while_building(file: str) -> None:
    """A model that is built from stored flags reads no other model's file."""
    loading = CURRENT.get()
    if loading and loading.builds:
        raise UserError(f"its flags name one more checkpoint, {file}, which is not read for them")


@contextlib.contextmanager
def _loads_by(load: Callable[..., Any]) -> Iterator[None]:
    """Let fairseq's functions, which call ``torch.load``, call another one."""
    stock = torch.load
    torch.load = load
    try:
        yield
    finally:
        torch.load = stock


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint for a tool that builds no model.

    Raises:
        UserError: it is none, is damaged, or is not to be trusted.
    """
    with explain_refusal(str(file)), _of_file(str(file)):
        return _read(torch.load, file, map_location="cpu")


def _read(load: Callable[..., Any], file: Any, **kwargs: Any) -> dict[str, Any]:
    """What ``torch.load`` reads, once its flags and tensors have been looked through."""
    state = load(file, **kwargs, weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"a {type(state).__name__} and no dictionary")
    check_flags(state)
    check_tensors(state)
    return state


@contextlib.contextmanager
def _of_file(path: str) -> Iterator[None]:
    """Say of which file it is that something is wrong in it, where that is not said yet."""
    try:
        yield
    except UserError as error:
        if path in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


@contextlib.contextmanager
def explain_refusal(path: str) -> Iterator[None]:
    """Say in one line why the file *path* cannot be read as a checkpoint."""
    try:
        yield
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error))
        if forbidden and forbidden[1].startswith("omegaconf."):
            raise UserError(
                f"refused to load {path}: its flags are pickled as {forbidden[1]}, as fairseq's development version of "
                "late 2020 did, and unpickling one could run any code. If you trust the file: state = "
                "torch.load(FILE, weights_only=False); state['cfg'] = OmegaConf.to_container(state['cfg']); "
                "torch.save(state, FILE)"
            ) from error
        if forbidden:
            raise UserError(
                f"refused to load {path}: it holds a pickled {forbidden[1]}, and unpickling one could run "
                "any code; fairseq's checkpoints hold tensors, numbers, text, flags and counters only. If it is a "
                "file of your own, read it where that class comes from, put a number or text in its place, and save "
                "it again"
            ) from error
        raise UserError(f"{path} is no checkpoint, or a damaged one") from error
    except UNREADABLE as error:
        raise UserError(f"{path} is no checkpoint, or a damaged one ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
