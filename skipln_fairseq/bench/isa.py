"""Emulates a processor with fewer instructions, by what each contestant reads of its environment.

========  ==========================  ========  ===================  ===========  =========
          our C                       torch     oneDNN               MKL          CTranslate2
========  ==========================  ========  ===================  ===========  =========
avx512    AVX-512 with VNNI, no AMX   AVX-512   up to AVX-512 VNNI   the same     AVX-512
avx2      AVX2 and FMA                AVX2      AVX2                 AVX2         AVX2
portable  SSE4.2                      none      SSE4.1               SSE4.2       generic
========  ==========================  ========  ===================  ===========  =========

Each is told by an environment variable, which it reads once. MKL asks its variable on Intel's processors only, and
chooses for others by itself.
"""

import os
import platform

import torch

from ..common.errors import UserError

__all__ = ["ISAS", "emulate"]

VARIABLES = (
    "SKIPLN_CFLAGS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "CT2_FORCE_CPU_ISA",
)
VALUES = {
    "avx512": ("-march=x86-64-v4 -mavx512vnni", "avx512", "AVX512_CORE_VNNI", "AVX512_E1", "AVX512"),
    "avx2": ("-march=x86-64-v3", "avx2", "AVX2", "AVX2", "AVX2"),
    "portable": ("-march=x86-64-v2", "default", "SSE41", "SSE4_2", "GENERIC"),
}
ISAS = ("native", *VALUES)
"""Names, of which ``native`` is the processor as it is."""

RANKS = {"DEFAULT": 0, "AVX2": 1, "AVX512": 2}  # as torch calls what it finds
NEEDED = {"portable": 0, "avx2": 1, "avx512": 2}


def emulate(isa: str) -> None:
    """Set the environment of all processes that are started from now on.

    Raises:
        UserError: for an unknown name, on other processors than x86-64, or for more than this one has.
    """
    if isa not in ISAS:
        raise UserError(f"--isa {isa}: valid are {', '.join(ISAS)}")
    if isa == "native":
        return
    if platform.machine() not in ("x86_64", "AMD64"):
        raise UserError(f"--isa {isa}: only an x86-64 processor can do as if it had less")
    has = torch.backends.cpu.get_cpu_capability()
    if RANKS.get(has, -1) < NEEDED[isa]:
        raise UserError(f"--isa {isa}: this processor has {has} only")
    os.environ.update(zip(VARIABLES, VALUES[isa], strict=True))
