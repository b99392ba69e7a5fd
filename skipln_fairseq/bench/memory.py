"""What a training holds in memory: the bytes of its tensors, and the process's resident set."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from fairseq.trainer import Trainer
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

__all__ = ["forget_resident_peak", "peak_of", "resident", "state"]

PROCESS = Path("/proc/self")


def _state_tensors(trainer: Trainer) -> Iterable[Tensor]:
    yield from trainer.model.parameters()
    yield from trainer.model.buffers()
    optimizer = (
        trainer.optimizer.optimizer
    )  # torch's: its parameters are fp32 copies where the model's are not
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
            yield from (value for value in optimizer.state[parameter].values() if torch.is_tensor(value))


def state(trainer: Trainer) -> int:
    """Bytes held from step to step: parameters, buffers, the optimiser's copies and moments."""
    storages = (tensor.untyped_storage() for tensor in _state_tensors(trainer))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def peak_of(step: Callable[[], object], cuda: bool) -> int:
    """The most bytes of tensors alive at one time during *step*, above those alive when it begins.

    On a CPU every allocation of torch is recorded, temporary ones inside operators included; libraries that allocate
    on their own (oneDNN's scratch memory) are not. On a GPU it is what torch's allocator says.
    """
    if cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def forget_resident_peak() -> None:
    """Let ``VmHWM`` begin anew; where that is forbidden it stays that of the whole process."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def resident(field: str) -> int | None:
    """``VmRSS`` or ``VmHWM`` of this process in bytes; None where there is no ``/proc``."""
    try:
        found = re.search(rf"^{field}:\s*(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024
