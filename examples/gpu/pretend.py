"""A GPU that is not there: fake tensors on a device ``cuda``, with torch's build for CPUs.

:func:`load` has to be called before torch is imported. What torch's Python asks CUDA is answered by :func:`answers`.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

__all__ = ["answers", "load"]

SOURCE = Path(__file__).with_name("pretend.cpp")


def load() -> None:
    """Compile the device, in a second, and load it.

    Raises:
        RuntimeError: where torch is imported already, which has then asked for its device.
        OSError, subprocess.CalledProcessError: without a C++ compiler, or where torch's headers are other ones.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch has been imported")
    (torch,) = find_spec("torch").submodule_search_locations
    library = Path(torch, "lib")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "pretend.so")
        flags = ("-shared", "-fPIC", "-std=c++20", f"-I{torch}/include", SOURCE, "-o", built)
        libraries = (f"-L{library}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{library}")
        subprocess.run([os.environ.get("CXX", "g++"), *flags, *libraries], check=True)
        ctypes.CDLL(str(built))


@contextmanager
def answers():
    """Let torch's Python find one GPU, of Hopper's kind; and let modules be moved to it."""
    import torch

    gpu = SimpleNamespace(name="pretended", major=9, minor=0, total_memory=2**37, multi_processor_count=132)
    told = {
        "is_available": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": (9, 0),
        "get_device_properties": gpu,
        "get_device_name": gpu.name,
        "get_rng_state": torch.empty(16, dtype=torch.uint8),
        "max_memory_allocated": 0,
        **dict.fromkeys(("set_device", "manual_seed", "set_rng_state", "synchronize"), None),
        **dict.fromkeys(("empty_cache", "reset_peak_memory_stats"), None),
    }
    with ExitStack() as stack:
        for name, answer in told.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(mock.patch.object(torch.nn.Module, "_apply", _apply))
        # fairseq's position embeddings ask for the shape as a tensor of the CPU, which a fake one does not know
        stack.enter_context(mock.patch("torch.onnx.operators.shape_as_tensor", lambda tensor: tensor.shape))
        yield


def _apply(self, fn, recurse: bool = True):
    """Each parameter and buffer anew: torch would write into the old one, which a fake tensor does not allow.

    A parameter that two modules share stays one.
    """
    import torch

    made = {}

    def anew(tensor):
        if id(tensor) not in made:
            with torch.no_grad():
                result = fn(tensor)
            if isinstance(tensor, torch.nn.Parameter):
                result = torch.nn.Parameter(result, tensor.requires_grad)
            made[id(tensor)] = tensor, result  # the old one too: or its number is the next one's
        return made[id(tensor)][1]

    for module in self.modules() if recurse else (self,):
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    kept[name] = anew(tensor)
    return self
