"""Kernels compiled as for other processors than this one, as far as this one runs what comes of it."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from skipln_fairseq.nn.kernels import compiled
from skipln_fairseq.nn.kernels.decode import kind, library

__all__ = ["PROCESSORS", "compiled_as_for", "why_not"]

TILES = Path(__file__).with_name("emulated_tiles.h")
IS_X86 = platform.machine() in ("x86_64", "AMD64")
V2 = {"sse4_1", "sse4_2", "ssse3", "popcnt"}
V3, V4 = {"avx2", "fma"}, {"avx512f", "avx512bw", "avx512vl", "avx512dq"}

# The compiler's flags, what a processor has to be able to do, and what the kernels say that they are. Tiles are
# emulated in plain C.
PROCESSORS = {
    "amx": (f"-O1 -march=x86-64-v3 -include {TILES}", V3, "amx"),
    "avx512-bf16": (
        "-march=x86-64-v4 -mavx512vnni -mavx512bf16",
        V4 | {"avx512_vnni", "avx512_bf16"},
        "avx512-vnni",
    ),
    "avx512-vnni": ("-march=x86-64-v4 -mavx512vnni", V4 | {"avx512_vnni"}, "avx512-vnni"),
    "avx512": ("-march=x86-64-v4", V4, "avx512"),
    "avx2-vnni": ("-march=x86-64-v3 -mavxvnni", V3 | {"avx_vnni"}, "avx2-vnni"),
    "avx2": ("-march=x86-64-v3", V3, "avx2"),
    "portable": ("-march=x86-64-v2" if IS_X86 else "", V2 if IS_X86 else set(), "portable"),
}


def why_not(processor: str) -> str | None:
    """The reason why this machine cannot run what is compiled for a processor; None where it can."""
    if kind() is None:
        return "no C compiler"
    needed = PROCESSORS[processor][1]
    cpuinfo = Path("/proc/cpuinfo")
    found = set(cpuinfo.read_text().split()) if IS_X86 and cpuinfo.exists() else set()
    return f"this processor has no {', '.join(sorted(needed - found))}" if needed - found else None


@contextmanager
def compiled_as_for(processor: str, folder: Path) -> Iterator[None]:
    """Compile all kernels of decoding for a processor; they are kept in the folder."""
    flags, _, name = PROCESSORS[processor]
    caches = (kind, library.source, compiled.load)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("SKIPLN_CFLAGS", flags)
        for one in ("_is_amx_tile_supported", "_init_amx"):
            patch.setattr(torch.cpu, one, lambda: name == "amx")
        for one in caches:
            one.cache_clear()
        assert kind() == name
        yield
    for one in caches:
        one.cache_clear()
